"""Two hosts on one machine: network namespaces with an address each, joined by a cable that can be pulled."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import plain_ray

PORT = 26379
HEAD = f"10.213.77.1:{PORT}"
QUICK = {  # that a host is gone is noticed after some ten seconds
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
ENVIRONMENT = QUICK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5f" * 32}
# Those that a firewall has to let through for Ray.
PORTS = [
    "--min-worker-port=30000",
    "--max-worker-port=30200",
    "--node-manager-port=30201",
    "--object-manager-port=30202",
    "--runtime-env-agent-port=30203",
    "--dashboard-agent-grpc-port=30204",
    "--metrics-export-port=30205",
]


def why_not() -> str | None:
    """What this machine lacks."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("ip") is None:
        return "needs iproute2"
    probe = f"ddip-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True, check=False)
    return made.stderr.strip() if made.returncode else None


def with_iptables() -> bool:
    """Debian's package, where it is not there."""
    if shutil.which("iptables") is None and shutil.which("apt-get") is not None:
        words = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "iptables"]
        subprocess.run(words, capture_output=True, check=False)
    return shutil.which("iptables") is not None


@dataclass
class Host:
    """Number ``number``, 1 or 2; processes on it are children of this one."""

    number: int
    folder: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return f"ddip{os.getpid()}-{self.number}"

    @property
    def cable(self) -> str:
        """The end of it that is here."""
        return f"dd{os.getpid()}x{self.number}"

    @property
    def names(self) -> Path:
        """What `ip netns exec` puts over /etc."""
        return Path("/etc/netns") / self.namespace

    @property
    def ip(self) -> str:
        return f"10.213.77.{self.number}"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | ENVIRONMENT | {"RAY_ADDRESS": HEAD}

    def popen(self, *command: str) -> subprocess.Popen[str]:
        words = ["ip", "netns", "exec", self.namespace, *command]
        with (self.folder / f"host{self.number}.log").open("a") as log:
            process = subprocess.Popen(
                words, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.processes.append(process)
        return process

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        words = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)

    def start_ray(self, hidden: Sequence[Path] = ()) -> None:
        """A node of one core; Python has what this program needs, but not it, nor the ``hidden`` folders."""
        own = ["--num-cpus=1", f"--node-ip-address={self.ip}", *PORTS, *plain_ray.FLAGS]
        head = [*plain_ray.HEAD_FLAGS, f"--port={PORT}", f"--temp-dir={self.folder}/ray"]
        where = head if self.number == 1 else [f"--address={HEAD}"]
        hide = "".join(f"mount -t tmpfs none {shlex.quote(str(path))} && " for path in hidden)
        command = f"{hide}exec {shlex.join([*plain_ray.COMMAND, *where, *own])}"
        environment = os.environ | ENVIRONMENT | plain_ray.ENVIRONMENT
        with (self.folder / f"ray{self.number}.log").open("w") as log:
            words = ["ip", "netns", "exec", self.namespace, "bash", "-c", command]
            self.processes.append(
                subprocess.Popen(words, env=environment, stdout=log, stderr=log, cwd="/", text=True)
            )

    def stop(self) -> None:
        found = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False
        )
        for pid in found.stdout.split():
            subprocess.run(["kill", "-KILL", pid], capture_output=True, check=False)
        for process in self.processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Cabled to each other, and to nothing else; gone afterwards with all that runs on them."""
    folder.mkdir(parents=True, exist_ok=True)
    hosts = Host(1, folder), Host(2, folder)
    bridge = f"dd{os.getpid()}br"
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for host in hosts:
            ip("netns", "add", host.namespace)
            host.names.mkdir(parents=True)
            (host.names / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # says no at once
            ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            ip("link", "set", host.cable, "master", bridge)
            ip("link", "set", host.cable, "up")
            for words in (["addr", "add", f"{host.ip}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
                ip("-n", host.namespace, *words)
            ip("-n", host.namespace, "link", "set", "lo", "up")
        yield hosts
    finally:
        for host in hosts:
            host.stop()
            subprocess.run(["ip", "netns", "delete", host.namespace], capture_output=True, check=False)
            subprocess.run(["ip", "link", "delete", host.cable], capture_output=True, check=False)
            shutil.rmtree(host.names, ignore_errors=True)
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True, check=False)


@contextmanager
def ray_on_two_hosts(folder: Path, hidden: Sequence[Path] = ()) -> Iterator[tuple[Host, Host]]:
    """A cluster with a core on each; folders that are ``hidden`` from the second."""
    with two_hosts(folder) as hosts:
        hosts[0].start_ray()
        wait_for_port(hosts[0])
        hosts[1].start_ray(hidden)
        yield hosts


def wait_for_port(host: Host) -> None:
    probe = f"import socket; socket.create_connection(('{host.ip}', {PORT}), 2).close()"
    deadline = time.monotonic() + 600
    while host.run(sys.executable, "-c", probe).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError((host.folder / f"ray{host.number}.log").read_text())
        time.sleep(0.3)
