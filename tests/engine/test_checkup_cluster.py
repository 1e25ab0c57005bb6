"""The doctor on a simulated cluster: all is well, and then one thing after another is not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ddip_ray.doctor.checkup import check_cluster
from ddip_ray.doctor.findings import Finding, Status
from ddip_ray.doctor.storage import DRIVER
from ddip_ray.engine.ray.cluster import QUIET

SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
OTHER_MOUNTS = """
mount -t tmpfs none "$1" && mount --bind "$2" "$2" && mount -o remount,ro,bind "$2" && shift 2 && exec "$@"
"""
OTHER_RAY = """
import sys, types
other = types.ModuleType("ray._version")
other.version, other.commit = "2.59.0", "other"
sys.modules["ray._version"] = other
"""
NO_DDIP_RAY = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "ddip_ray":
            raise ModuleNotFoundError("No module named 'ddip_ray'")
sys.meta_path.insert(0, Without())
"""
CAN_MOUNT = shutil.which("unshare") is not None and not subprocess.call(["unshare", "--mount", "true"])


@dataclass
class Hospital:
    """A cluster whose head and one node share all storage."""

    cluster: Any
    folder: Path
    known: list[Any] = field(default_factory=list)

    def admit(self, name: str, sitecustomize: str = "", **options: Any) -> str:
        """A node whose processes of Python first run ``sitecustomize``; how its name ends."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(sitecustomize)
        self.known.append(self.cluster.add_node(**SMALL, env_vars={"PYTHONPATH": str(folder)}, **options))
        return str(self.known[-1].node_id)[:6]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=SMALL | {"num_cpus": 0})
        patch.setenv("RAY_ADDRESS", cluster.address)
        try:
            cluster.add_node(**SMALL)
            yield Hospital(cluster, tmp_path_factory.mktemp("nodes"))
        finally:
            cluster.shutdown()


@dataclass(frozen=True)
class Examined:
    """The findings on a healthy cluster, one node of which has other mounts if those can be made here."""

    findings: list[Finding]
    private: Path
    read_only: Path
    shared: Path

    def storage(self, path: Path) -> list[Finding]:
        return [finding for finding in self.findings if finding.found.startswith(f"{path}: ")]


@pytest.fixture(scope="module")
def examined(hospital: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    folders = [tmp_path_factory.mktemp(name) for name in ("private", "read-only", "shared")]
    private, read_only, _ = folders
    node = node_with_other_mounts(hospital, private, read_only) if CAN_MOUNT else nullcontext()
    with node:
        findings = check_cluster([str(folder) for folder in folders])
    return Examined(findings, *folders)


@contextmanager
def node_with_other_mounts(hospital: Hospital, private: Path, read_only: Path) -> Iterator[None]:
    """One for which ``private`` is a file system of its own, and ``read_only`` is what it says."""
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--address", hospital.cluster.address]
    options = ["--num-cpus", "1", "--object-store-memory", str(80 * 2**20), "--block"]
    command = ["unshare", "--mount", "sh", "-c", OTHER_MOUNTS, "sh", str(private), str(read_only)]
    with (hospital.folder / "ray-start.log").open("w") as log:
        node = subprocess.Popen([*command, *ray, *options], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(hospital, 3)
        yield
    finally:
        node.terminate()
        node.wait(300)


def wait_for(hospital: Hospital, num_nodes: int) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        table = hospital.cluster.global_state.node_table()
        if sum(node["Alive"] for node in table) == num_nodes:
            return
        time.sleep(0.2)
    raise AssertionError((hospital.folder / "ray-start.log").read_text())


def failures(findings: list[Finding]) -> dict[tuple[str, str], str]:
    """What was found, by check and the last six letters of the place."""
    return {
        (finding.check, finding.where[-6:]): finding.found
        for finding in findings
        if finding.status == Status.FAIL
    }


def test_a_healthy_cluster(examined: Examined) -> None:
    num_nodes = 3 if CAN_MOUNT else 2
    rest = [finding for finding in examined.findings if finding.check != "storage"]
    assert failures(rest) == {}
    passed = {(finding.check, finding.where): finding.found for finding in rest}
    assert f"{num_nodes} alive, with {num_nodes - 1} cores and 0 GPUs" in passed["nodes", "all"]
    assert f"each of {num_nodes} nodes reaches each other" in passed["network", "all"]
    assert f"{num_nodes} processes through " in passed["gloo", "all"]
    assert sum(check == "versions" for check, _ in passed) == num_nodes
    storage = examined.storage(examined.shared)
    assert len(storage) == num_nodes + 1
    assert {finding.status for finding in storage} == {Status.PASS}
    assert sum("the same for all; locks are seen" in finding.found for finding in storage) == num_nodes
    assert list(examined.shared.iterdir()) == []


@pytest.mark.skipif(not CAN_MOUNT, reason="only root has nodes with other mounts")
def test_storage_that_is_not_the_same(examined: Examined) -> None:
    found = examined.storage(examined.private)
    assert len(found) == 4
    assert all("not the same storage" in finding.found for finding in found)
    (alone,) = [finding.where for finding in found if f"the files of {DRIVER}" in finding.found]
    (unwritable,) = [
        finding for finding in examined.storage(examined.read_only) if finding.status == Status.FAIL
    ]
    assert unwritable.where == alone
    assert "cannot be written: Read-only file system" in unwritable.found
    assert list(examined.private.iterdir()) == list(examined.read_only.iterdir()) == []


def test_sick_nodes(hospital: Hospital) -> None:
    """Each is found and named, and none keeps the others from being checked."""
    other = hospital.admit("other-ray", OTHER_RAY)
    without = hospital.admit("without", NO_DDIP_RAY)
    gpu = hospital.admit("gpu", num_gpus=1)
    stopped = hospital.admit("stopped")
    raylet = hospital.known[-1].all_processes["raylet"][0].process.pid
    os.kill(raylet, signal.SIGSTOP)
    try:
        found = failures(check_cluster(num_gpus=2, patience=25.0))
    finally:
        os.kill(raylet, signal.SIGCONT)
    assert found.pop(("versions", other)).startswith("Ray 2.59.0 instead of ")
    assert "ddip-ray cannot be imported there (ModuleNotFoundError" in found.pop(("versions", without))
    assert "no worker of Ray starts there (no answer for 25 s)" in found.pop(("versions", stopped))
    assert "Ray counts 1 GPUs, torch can use 0" in found.pop(("GPUs", gpu))
    assert "2 asked for, 0 there" in found.pop(("GPUs", "all"))
    assert found == {}
