"""`ddip-ray launch slurm` on a Slurm of two nodes: to the end, through a lost node, through a warning."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from slurm_cluster import SlurmCluster, install, slurm_cluster, wait_for
from volumes import volume

PROGRAM = Path(sys.executable).with_name("ddip-ray")
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    why_not = install()
    if why_not is not None:
        pytest.skip(f"no Slurm: {why_not}")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm_cluster(Path(folder)) as slurm:
        yield slurm


class Launched:
    """A job of two nodes with a core each, and what was printed while it was followed."""

    def __init__(self, cluster: SlurmCluster, scan: Path, name: str) -> None:
        self.cluster, self.output = cluster, scan / f"{name}.zarr"
        words = ["launch", "slurm", "--nodes", "2", "--cpus-per-node", "1", "--name", name]
        command = ["reconstruct", "vol.zarr", "-o", self.output.name, "--config", "run.yaml"]
        self.process = subprocess.Popen(
            [PROGRAM, *words, "--", *command, "--snapshot-every", "2"],
            cwd=scan,
            env=cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: cluster.run("squeue", "-h", "-o", "%i", "-n", name) != "", 600, cluster)
        self.job = cluster.run("squeue", "-h", "-o", "%i", "-n", name)
        self.log = scan / f"{name}-{self.job}.out"

    def wait_for_words(self, *words: str) -> None:
        wait_for(lambda: all(word in self.log.read_text() for word in words), 600, self.cluster)

    def wait_for_snapshot(self) -> None:
        folder = self.output.with_name(f"{self.output.name}.snapshots")
        wait_for(lambda: any(folder.glob("*.json")), 600, self.cluster)

    def end(self) -> tuple[int, str, str]:
        printed, said = self.process.communicate(timeout=900)
        return self.process.returncode, printed, said


@pytest.fixture
def launched(cluster: SlurmCluster, scan: Path) -> Iterator[Callable[[str], Launched]]:
    jobs = list[Launched]()

    def launch(name: str) -> Launched:
        jobs.append(Launched(cluster, scan, name))
        return jobs[-1]

    yield launch
    for job in jobs:
        if job.process.poll() is None:
            job.process.kill()
            job.process.communicate()
            subprocess.run(["scancel", job.job], env=cluster.environment, check=False)


def processes_of_node(name: str) -> list[int]:
    """Slurm's and Ray's, of a node that is simulated: told by what they inherited."""
    mark, daemon = f"SLURMD_NODENAME={name}".encode(), [b"slurmd", b"-D", b"-N", name.encode()]
    found = []
    for folder in Path("/proc").iterdir():
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in environment or command[:4] == daemon:
            found.append(int(folder.name))
    return found


def test_a_job_of_two_nodes_ends_in_the_local_result(launched: Callable[[str], Launched], scan: Path) -> None:
    job = launched("whole")
    code, printed, said = job.end()
    assert code == 0, printed + said
    assert printed.count("ddip-ray: node ") == 2
    assert "4 slices on 2 workers" in printed
    assert f"scancel --batch --signal=TERM {job.job}" in said
    assert np.array_equal(volume(job.output), volume(scan / "local.zarr"))
    assert not list(Path("/tmp").glob(f"ddip-ray-{job.job}*"))


def test_a_warning_leaves_a_snapshot_and_the_job_goes_on_later(
    launched: Callable[[str], Launched], cluster: SlurmCluster, scan: Path
) -> None:
    job = launched("warned")
    job.wait_for_snapshot()
    cluster.run("scancel", "--batch", "--signal=USR1", job.job)
    job.wait_for_words("USR1: stopping after this step", "queued again")
    # Slurm holds back for two minutes what comes back; an administrator need not wait, but for the second in
    # which the first run ended: its credential is revoked for the whole of it ("non-startable batch").
    wait_for(lambda: cluster.state(job.job) == "PENDING", 600, cluster)
    cluster.run("scontrol", "update", f"JobId={job.job}", "StartTime=now+3")
    code, printed, said = job.end()
    assert code == 0, printed + said
    assert "going on after step" in printed
    assert np.array_equal(volume(job.output), volume(scan / "local.zarr"))


def test_a_lost_node_is_done_without(
    launched: Callable[[str], Launched], cluster: SlurmCluster, scan: Path
) -> None:
    job = launched("lost")
    job.wait_for_snapshot()
    for pid in processes_of_node("n2"):
        os.kill(pid, signal.SIGKILL)
    cluster.daemons.pop("n2").wait()
    try:
        code, printed, said = job.end()
    finally:
        cluster.start_node("n2")
    assert code == 0, printed + said
    assert "new workers take over (1 of 3)" in printed
    assert "room for 1 of 2 workers: going on with those" in printed
    assert "4 slices on 1 worker " in printed
    assert np.array_equal(volume(job.output), volume(scan / "local.zarr"))


def test_what_slurm_refuses_is_said(cluster: SlurmCluster, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("partition: nowhere\n")
    words = ["launch", "slurm", "--site", str(site), "--cpus-per-node", "1", "--", "reconstruct", "vol.zarr"]
    done = subprocess.run(
        [PROGRAM, *words], cwd=tmp_path, env=cluster.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "sbatch" in done.stderr
    assert "invalid partition" in done.stderr
