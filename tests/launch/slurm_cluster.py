"""Slurm itself, with two nodes on this machine: Debian's packages, their daemons started here and stopped."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("slurm-wlm", "slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue")
NODES = ("n1", "n2")
CONTROLLER_PORT, FIRST_NODE_PORT = 16817, 17001
CONFIG = """
ClusterName=ddip
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
SlurmdTimeout=20
InactiveLimit=0
MinJobAge=600
SchedulerParameters=sched_interval=2
"""


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


def install() -> str | None:
    """Debian's packages, where they are not there; why that is not possible, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not missing_programs():
        return None
    if shutil.which("apt-get") is None:
        return f"no apt-get, and no {', '.join(missing_programs())}"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES]
    for words in (command, ["apt-get", "update", "-q"], command):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return None if not missing_programs() else f"{PACKAGES} could not be installed: {done.stderr[-300:]}"


@dataclass
class SlurmCluster:
    """Commands find it by ``environment``."""

    folder: Path
    environment: dict[str, str]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def start_node(self, name: str) -> None:
        self.start(name, "slurmd", "-D", "-N", name)

    def run(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def state(self, job: str) -> str:
        return self.field(job, "JobState")

    def field(self, job: str, name: str) -> str:
        """Of what ``scontrol show job`` prints."""
        pairs = (word.partition("=") for word in self.run("scontrol", "show", "job", job).split())
        return next(value for key, _, value in pairs if key == name)

    def stop(self) -> None:
        for name in ("n2", "n1", "slurmctld", "munged"):
            process = self.daemons.get(name)
            if process is not None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def slurm_cluster(folder: Path, cores: int = 2) -> Iterator[SlurmCluster]:
    """Up with both nodes idle; down with every process that it started."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    (folder / "state").mkdir()
    config = folder / "slurm.conf"
    nodes = "".join(
        f"NodeName={name} NodeHostname={os.uname().nodename} NodeAddr=127.0.0.1 Port={FIRST_NODE_PORT + k} "
        f"CPUs={cores} RealMemory=8000 State=UNKNOWN\n"
        for k, name in enumerate(NODES)
    )
    partition = f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP\n"
    config.write_text(CONFIG.format(folder=folder, controller_port=CONTROLLER_PORT) + nodes + partition)
    cluster = SlurmCluster(folder, os.environ | {"SLURM_CONF": str(config)})
    try:
        socket = folder / "munge.socket"
        where = [f"--{name}-file={folder}/munge.{name}" for name in ("log", "pid", "seed")]
        cluster.start("munged", "munged", "-F", "--force", f"--key-file={key}", f"--socket={socket}", *where)
        cluster.start("slurmctld", "slurmctld", "-D")
        for name in NODES:
            cluster.start_node(name)
        wait_for(lambda: cluster.run("sinfo", "-h", "-o", "%T %D") == f"idle {len(NODES)}", 6000, cluster)
        yield cluster
    finally:
        cluster.stop()


def wait_for(is_so: object, seconds: float, cluster: SlurmCluster) -> None:
    """Ask again and again; TimeoutError with the daemons' last words."""
    assert callable(is_so)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if is_so():
                return
        except (subprocess.CalledProcessError, StopIteration):
            pass
        time.sleep(0.3)
    logs = sorted(cluster.folder.glob("*.log")) + sorted(cluster.folder.glob("*.out"))
    last = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-500:]}" for log in logs)
    raise TimeoutError(f"not so after {seconds} s\n{last}")
