"""What all tests share: quiet libraries, real data where there are any, small scans, an S3 server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a process of tests for each core
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave their core to others

import numpy as np
import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Files that start Ray. One process of tests has them all, so that no two start Ray at the same moment.
RAY_FILES = {
    "test_checkup_cluster.py",
    "test_client.py",
    "test_cohort.py",
    "test_doctor.py",
    "test_executors.py",
    "test_faults.py",
    "test_wait_for_nodes.py",
    "test_interrupts.py",
    "test_object_store.py",
    "test_ray_failures.py",
    "test_reconstruct.py",
    "test_resume.py",
    "test_slurm.py",
    "test_two_hosts.py",
}
# Folders whose tests take milliseconds each, which come before all else.
CHEAP_FOLDERS = {"io", "operators", "tests"}
# Real data, which the repository does not hold: beside it, or where the variable says.
DATA = Path(os.environ.get("DDIP_RAY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
SMALL_SHAPE = (12, 20, 24)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap tests come first, then those with Ray, and beside these all others."""

    def turn(item: pytest.Item) -> int:
        if item.path.name in RAY_FILES:
            return 1
        return 0 if item.path.parent.name in CHEAP_FOLDERS else 2

    items.sort(key=turn)  # which keeps the order among equals


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler that gives a process a file at a time, and one process all files with Ray."""
    from xdist.scheduler import LoadFileScheduling

    class RayInOneProcess(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ray" if Path(file).name in RAY_FILES else file

    return RayInOneProcess(config, log)


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Path of a real data file of the developers; skips, saying so, where they are not."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"no real data in {DATA} (DDIP_RAY_TEST_DATA): {name}")
        return DATA / name

    return find


@pytest.fixture(scope="session")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .npy of (12, 20, 24) voxels, values 0 to 1: an ellipsoid with a hole."""
    grids = np.meshgrid(*(np.linspace(-1, 1, size) for size in SMALL_SHAPE), indexing="ij")
    z, y, x = grids
    body = (0.4 * z**2 + 1.4 * y**2 + 1.6 * x**2 < 1).astype(np.float32)
    hole = (y + 0.2) ** 2 + (x - 0.2) ** 2 < 0.06
    path = tmp_path_factory.mktemp("image") / "ellipsoid.npy"
    np.save(path, np.where(hole, 0.25 * body, 0.75 * body).astype(np.float32))
    return path


@pytest.fixture(scope="session")
def _small_scan(small_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate

    path = tmp_path_factory.mktemp("scan") / "vol.zarr"
    simulate(str(small_image), str(path), Scan(num_views=16, window=(0.0, 1.0)))
    return path


@pytest.fixture(scope="session")
def _small_mri(small_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ddip_ray.tasks.acquire.kspace_scan import KSpaceScan
    from ddip_ray.tasks.acquire.measurement_noise import NoiseRequest
    from ddip_ray.tasks.acquire.simulate_mri import simulate_mri

    path = tmp_path_factory.mktemp("mri") / "vol.zarr"
    scan = KSpaceScan("gaussian1d", 2.0, calibration=6, num_coils=3, brightest=1.0, mask_per_slice=True)
    simulate_mri(str(small_image), str(path), replace(scan, noise=NoiseRequest("gaussian", 0.01)))
    return path


@pytest.fixture(scope="session")
def untrained_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small prior that knows nothing."""
    from ddip_ray.prior.load import save_prior
    from ddip_ray.prior.network import NetworkConfig, build_network
    from ddip_ray.prior.training.train import SCHEDULE

    folder = tmp_path_factory.mktemp("prior") / "tiny"
    torch.manual_seed(0)
    network = build_network(NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8))
    save_prior(folder, network, SCHEDULE, {"image_range": [-1.0, 1.0]})
    return folder


@pytest.fixture(scope="session")
def two_channels() -> torch.nn.Module:
    """A small untrained network of two channels, for images of a real and an imaginary part."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(
        in_channels=2,
        out_channels=2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )


@pytest.fixture
def small_mri(_small_mri: Path, tmp_path: Path) -> Path:
    """Simulated k-space of `small_image`: 3 coils, lines of its own for every slice, 1 % of noise."""
    copy = tmp_path / "mri" / "vol.zarr"
    shutil.copytree(_small_mri, copy)
    return copy


@pytest.fixture
def small_scan(_small_scan: Path, tmp_path: Path) -> Path:
    """A simulated acquisition of `small_image`, 16 views, free of noise, alone in a folder of its own."""
    copy = tmp_path / "scan" / "vol.zarr"
    shutil.copytree(_small_scan, copy)
    return copy


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
