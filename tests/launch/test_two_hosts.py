"""A run on two hosts with a network of their own between them, one of which has nothing but libraries."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from two_hosts import HEAD, Host, ip, ray_on_two_hosts, why_not, with_iptables
from volumes import volume

from ddip_ray.prior.catalog import SHIPPED

PROGRAM = str(Path(sys.executable).with_name("ddip-ray"))
pytestmark = pytest.mark.timeout(1800)


HOUSE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That the second host does not have."""
    folder = tmp_path_factory.mktemp("home") / "prior"
    shutil.copytree(SHIPPED / "default", folder)
    return folder


@pytest.fixture(scope="module")
def hosts(prior: Path) -> Iterator[tuple[Host, Host]]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no network namespaces: {reason}")
    hidden = [HOUSE / "ddip_ray", prior.parent]
    with tempfile.TemporaryDirectory(prefix="h") as folder, ray_on_two_hosts(Path(folder), hidden) as both:
        found = both[0].run(PROGRAM, "launch", "wait", "--nodes", "2", "--seconds", "600")
        assert found.returncode == 0, found.stderr
        yield both


def doctor(host: Host) -> tuple[int, list[dict[str, Any]]]:
    found = host.run(PROGRAM, "doctor", "--cluster", HEAD, "--storage", str(host.folder), "--json")
    assert found.stdout, found.stderr
    return found.returncode, json.loads(found.stdout)


def failed(findings: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(one["check"], one["where"], one["found"]) for one in findings if one["status"] == "fail"]


def test_a_doctor_finds_a_blocked_port(hosts: tuple[Host, Host]) -> None:
    """By a firewall on the second host that knows of Ray's ports, and not that workers talk to each other."""
    first, second = hosts
    if not with_iptables():
        pytest.skip("no iptables")
    code, findings = doctor(first)
    assert (code, failed(findings)) == (0, [])
    rule = ["INPUT", "--protocol", "tcp", "--syn", "--dport", "30300:65535", "--jump", "DROP"]
    assert second.run("iptables", "--append", *rule).returncode == 0
    try:
        code, findings = doctor(first)
    finally:
        second.run("iptables", "--delete", *rule)
    assert code == 1
    ((check, _, words),) = failed(findings)
    assert (check, words) == ("network", "10.213.77.2: timed out")


def test_a_cut_cable_is_done_without(hosts: tuple[Host, Host], prior: Path, scan: Path) -> None:
    """Two workers, for the cluster has two cores; the host's own name would lead gloo astray."""
    first, second = hosts
    words = ["reconstruct", str(scan / "vol.zarr"), "-o", str(scan / "cut.zarr"), "--prior", str(prior)]
    settings = ["--config", str(scan / "run.yaml"), "--snapshot-every", "2", "--elastic"]
    run = first.popen(PROGRAM, *words, *settings)
    snapshots = scan / "cut.zarr.snapshots"
    deadline = time.monotonic() + 600
    while not any(snapshots.glob("*.json")):
        assert run.poll() is None, (first.folder / "host1.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ip("link", "set", second.cable, "down")
    printed, _ = run.communicate(timeout=900)
    said = (first.folder / "host1.log").read_text()
    assert run.returncode == 0, said
    assert "new workers take over (1 of 3)" in said
    assert "room for 1 of 2 workers: going on with those" in said
    assert "going on after step" in said
    assert "4 slices on 1 worker " in printed
    assert np.array_equal(volume(scan / "cut.zarr"), volume(scan / "local.zarr"))
