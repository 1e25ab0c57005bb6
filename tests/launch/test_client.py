"""A run driven from outside of a cluster, by Ray's client."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import plain_ray
import pytest
from volumes import volume

PROGRAM = str(Path(sys.executable).with_name("ddip-ray"))
PORTS = {"port": 26479, "ray-client-server-port": 26480}
# The cluster and who uses it; of this machine alone.
OPEN = {"RAY_AUTH_MODE": "disabled"}


@pytest.fixture
def address() -> Iterator[str]:
    """Of a cluster whose Python does not have this program."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        flags = [f"--{name}={number}" for name, number in PORTS.items()]
        here = ["--num-cpus=2", f"--temp-dir={folder}/ray"]
        process = subprocess.Popen(
            [*plain_ray.COMMAND, *plain_ray.HEAD_FLAGS, *plain_ray.FLAGS, *flags, *here],
            env=os.environ | plain_ray.ENVIRONMENT | OPEN,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_port(PORTS["ray-client-server-port"], process)
            yield f"ray://127.0.0.1:{PORTS['ray-client-server-port']}"
        finally:
            process.terminate()
            process.wait()
            for log in sorted(Path(folder).glob("ray/session_2*/logs/ray_client_server*")):
                print(log.name, log.read_text(), sep="\n")  # shown where the test fails


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, "ray start ended"
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return


def test_a_run_through_the_client(address: str, scan: Path) -> None:
    words = ["reconstruct", str(scan / "vol.zarr"), "-o", str(scan / "client.zarr")]
    done = subprocess.run(
        [PROGRAM, *words, "--config", str(scan / "run.yaml"), "--address", address],
        env=os.environ | OPEN,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "4 slices on 2 workers" in done.stdout
    assert np.array_equal(volume(scan / "client.zarr"), volume(scan / "local.zarr"))
