"""A run on two hosts with a network of their own between them: alone, and with its cable pulled."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from two_hosts import Host, ip, ray_on_two_hosts, why_not
from volumes import volume

PROGRAM = str(Path(sys.executable).with_name("ddip-ray"))
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no network namespaces: {reason}")
    with tempfile.TemporaryDirectory(prefix="h") as folder, ray_on_two_hosts(Path(folder)) as both:
        found = both[0].run(PROGRAM, "launch", "wait", "--nodes", "2", "--seconds", "120")
        assert found.returncode == 0, found.stderr
        yield both


def reconstruct(scan: Path, output: str) -> list[str]:
    words = [PROGRAM, "reconstruct", str(scan / "vol.zarr"), "-o", str(scan / output), "--elastic"]
    return [*words, "--config", str(scan / "run.yaml"), "--snapshot-every", "2"]


def test_a_cut_cable_is_done_without(hosts: tuple[Host, Host], scan: Path) -> None:
    """Two workers, for the cluster has two cores; the host's own name would lead gloo astray."""
    first, second = hosts
    run = first.popen(*reconstruct(scan, "cut.zarr"))
    snapshots = scan / "cut.zarr.snapshots"
    deadline = time.monotonic() + 90
    while not any(snapshots.glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ip("link", "set", second.cable, "down")
    printed, _ = run.communicate(timeout=180)
    said = (first.folder / "host1.log").read_text()
    assert run.returncode == 0, said
    assert "new workers take over (1 of 3)" in said
    assert "room for 1 of 2 workers: going on with those" in said
    assert "going on after step" in said
    assert "4 slices on 1 worker " in printed
    assert np.array_equal(volume(scan / "cut.zarr"), volume(scan / "local.zarr"))
