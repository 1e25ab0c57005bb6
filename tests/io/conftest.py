"""What the io tests share: a small image and acquisition, an S3 server on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ddip_ray.io.schema import AcquisitionMetadata, GaussianNoise, Intensity, ParallelCT, Source


@pytest.fixture
def metadata() -> AcquisitionMetadata:
    """Six views of a 10 x 12 image on 16 detectors."""
    return AcquisitionMetadata(
        acquisition=ParallelCT(
            angles_deg=(0.0, 30.0, 60.0, 90.0, 120.0, 150.0),
            num_detectors=16,
            detector_spacing_mm=1.5,
            rotation_center=7.5,
            image_shape=(10, 12),
            voxel_mm=(3.0, 1.5, 1.5),
        ),
        intensity=Intensity(scale=2000.0, offset=-1000.0, unit="HU"),
        noise=GaussianNoise(relative_std=0.01, std=0.3, seed=7),
        source=Source(name="/home/somebody/phantom.nii", format="NIfTI", history=("simulated",)),
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def volume(rng):
    """(z, y, x) = (4, 5, 6), integers that survive any format."""
    return rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)


# NIfTI


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server of our own, with the bucket `bucket`."""
    pytest.importorskip("moto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _make_bucket(server, endpoint)
        yield endpoint
    finally:
        server.terminate()
        server.wait(timeout=10)


def _make_bucket(server: subprocess.Popen[bytes], endpoint: str) -> None:
    for _ in range(300):
        try:
            request = urllib.request.Request(f"{endpoint}/bucket", method="PUT")
            with urllib.request.urlopen(request, timeout=5):
                return
        except OSError:
            assert server.poll() is None, "the moto server stopped"
            time.sleep(0.1)
    raise TimeoutError("the moto server does not answer")


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The root of the bucket, with the environment set for it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return "s3://bucket"


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a folder and its bytes, to see that nothing was touched."""
    return lambda folder: {
        str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }
