"""What the doctor makes of facts: judgements without a cluster."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from ddip_ray.doctor import storage as checkup_storage
from ddip_ray.doctor.checkup import check_cluster
from ddip_ray.doctor.connect import check_connection
from ddip_ray.doctor.findings import Observation, Silence, Status, Trouble, as_trouble, combined, separated
from ddip_ray.doctor.machine import (
    Gpu,
    GpuFacts,
    HostFacts,
    gpu_facts,
    host_facts,
    judge_clock,
    judge_gpus,
    judge_host,
    judge_wanted_gpus,
)
from ddip_ray.doctor.network import judge_addresses, judge_group, judge_pairs
from ddip_ray.doctor.nodes import Node
from ddip_ray.doctor.probe import reach, reach_all
from ddip_ray.doctor.storage import StorageView, judge_storage, missing_files, sees_lock, write_own
from ddip_ray.doctor.versions import (
    judge_essentials,
    judge_extras,
    judge_packages,
    judge_refusal,
)
from ddip_ray.engine.ray import cluster as ray_cluster
from ddip_ray.errors import InputError
from ddip_ray.io import paths

HERE = {"Ray": "2.60.0", "Python": "3.11.7", "ddip-ray": "0.1.0"}
GIB = 2**30
PASS, WARN, FAIL = Status.PASS, Status.WARN, Status.FAIL
SOCKET = Path("/tmp/ray/session_2026/sockets/plasma_store")


@pytest.mark.parametrize(
    ("there", "status", "words"),
    [
        ({}, PASS, "Ray 2.60.0, Python 3.11.7, ddip-ray 0.1.0"),
        ({"Python": "3.11.9"}, PASS, "Python 3.11.9"),
        ({"Python": "3.12.7"}, FAIL, "Python 3.12.7 instead of 3.11.7"),
        ({"Ray": "2.59.0", "ddip-ray": "0.0.9"}, FAIL, "Ray 2.59.0 instead of 2.60.0, ddip-ray 0.0.9"),
    ],
)
def test_essential_versions(there: dict[str, str], status: Status, words: str) -> None:
    finding = judge_essentials("n1", HERE, HERE | there)
    assert (finding.where, finding.status) == ("n1", status)
    assert words in finding.found
    assert bool(finding.fix) == (status != PASS)


@pytest.mark.parametrize(
    ("there", "status"), [({}, PASS), ({"torch": "2.6.0"}, WARN), ({"zarr": "missing"}, FAIL)]
)
def test_package_versions(there: dict[str, str], status: Status) -> None:
    here = {"torch": "2.13.0", "zarr": "3.1.6"}
    assert judge_packages("n1", here, here | there).status == status


def test_missing_extras_are_no_fault() -> None:
    finding = judge_extras("n1", ["sigpy"])
    assert finding.status == PASS
    assert "finufft no (ddip-ray[nufft]), sigpy yes" in finding.found


def test_a_refusal_names_both_versions() -> None:
    words = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.54.0\n    Python: 3.11.7\n"
        "This process on node 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
    )
    finding = judge_refusal("10.0.0.1:6379", words)
    assert finding.status == FAIL
    assert "the cluster has Ray 2.54.0, here " in finding.found
    assert "Ray cannot connect: odd" in judge_refusal("10.0.0.1:6379", "odd").found


A100 = Gpu("A100", 80 * GIB)


@pytest.mark.parametrize(
    ("counted", "gpus", "status", "words"),
    [
        (0, [], PASS, "CPU"),
        (2, [A100, A100], PASS, "GPU 1 A100 80 GiB; torch 2.6, CUDA 12.4"),
        (2, [A100], FAIL, "Ray counts 2 GPUs, torch can use 1 (torch 2.6, CUDA 12.4)"),
        (0, [A100], WARN, "Ray counts 0 of 1 GPUs"),
        (1, [Gpu("A100", GIB, "no kernel image")], FAIL, "GPU 0 A100 1 GiB: no kernel image"),
        (1, [Gpu("A100", GIB, "CUDA out of memory.")], WARN, "its memory is full"),
    ],
)
def test_gpus(counted: int, gpus: list[Gpu], status: Status, words: str) -> None:
    finding = judge_gpus("n1", counted, GpuFacts(gpus, "torch 2.6, CUDA 12.4"))
    assert finding.status == status
    assert words in finding.found


def test_torch_says_why_it_has_no_gpu() -> None:
    finding = judge_gpus("n1", 1, GpuFacts([], "torch 2.6+cpu, CUDA none", "Torch not compiled with CUDA"))
    assert "Ray counts 1 GPUs, torch can use 0 (torch 2.6+cpu, CUDA none, Torch not compiled" in finding.found


def test_gpus_asked_for() -> None:
    finding = judge_wanted_gpus(4, {"n1": 2, "n2": 1, "n3": 0})
    assert (finding.status, finding.fix) == (FAIL, "Use 3 GPUs at most.")
    assert finding.found == "4 asked for, 3 there (2 on n1, 1 on n2)"
    assert judge_wanted_gpus(3, {"n1": 2, "n2": 1}).status == PASS
    assert "workers on CPUs" in judge_wanted_gpus(1, {"n1": 0}).fix


@pytest.mark.parametrize(
    ("facts", "path", "status", "words"),
    [
        (HostFacts(8, 64 * GIB, 60 * GIB, 32 * GIB, 50 * GIB, 90 * GIB), SOCKET, PASS, "8 cores"),
        (HostFacts(8, 64 * GIB, 1 * GIB, 32 * GIB, 50 * GIB, 90 * GIB), SOCKET, WARN, "1 GiB of 64 GiB"),
        (HostFacts(8, 64 * GIB, 60 * GIB, 64 * 2**20, 50 * GIB, 90 * GIB), SOCKET, WARN, "64 MiB"),
        (HostFacts(8, 64 * GIB, 60 * GIB, None, 50 * GIB, 90 * GIB), SOCKET, WARN, "no /dev/shm"),
        (HostFacts(8, 64 * GIB, 60 * GIB, 32 * GIB, 4 * GIB, 90 * GIB), SOCKET, WARN, "4 GiB free for Ray"),
        (
            HostFacts(8, 64 * GIB, 60 * GIB, 32 * GIB, 50 * GIB, 90 * GIB),
            Path("/" + "x" * 90) / "session" / "sockets" / "plasma_store",
            FAIL,
            "paths of 120 characters, of 107 at most",
        ),
    ],
)
def test_host(facts: HostFacts, path: Path, status: Status, words: str) -> None:
    finding = judge_host("n1", facts, path)
    assert finding.status == status
    assert words in finding.found


@pytest.mark.parametrize(
    ("offset", "status"), [(0.3, PASS), (-1.9, PASS), (2.1, WARN), (-29.0, WARN), (31.0, FAIL), (-90.0, FAIL)]
)
def test_clock(offset: float, status: Status) -> None:
    finding = judge_clock("n1", offset, 0.01)
    assert finding.status == status
    assert ("ahead" in finding.found) == (offset > 0)


def test_facts_of_this_machine(tmp_path: Path) -> None:
    facts = host_facts(tmp_path / "session" / "sockets" / "plasma_store")
    assert 0 < facts.available <= facts.memory
    assert 0 < facts.temporary_free <= facts.temporary_total
    found = gpu_facts()
    assert bool(found.gpus) != bool(found.trouble)


def test_connections() -> None:
    """A listener whose queue is full drops what comes, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()
        assert reach(closed, 2.0) == ""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        full = server.getsockname()
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full)
        started = time.monotonic()
        found = reach_all({"closed": closed, "full": full, "full, too": full}, 1.0)
    assert "refused" in found["closed"]
    assert found["full"] == found["full, too"] == "timed out"
    assert time.monotonic() - started < 1.9


def test_blocked_pairs_are_named() -> None:
    addresses = {"n1": ("10.0.0.1", 5001), "n2": ("10.0.0.2", 5002)}
    (finding,) = judge_pairs({"n1": {"n2": "timed out"}, "n2": {"n1": ""}}, addresses)
    assert (finding.where, finding.status, finding.found) == ("n1 to n2", FAIL, "10.0.0.2: timed out")
    (finding,) = judge_pairs({"n1": {"n2": ""}, "n2": {"n1": ""}}, addresses)
    assert (finding.where, finding.status) == ("all", PASS)
    assert judge_pairs({"n1": {}}, addresses) == []


def test_loopback_among_several_nodes() -> None:
    nodes = [Node("n1", "a", "127.0.0.1", 0, 1, SOCKET), Node("n2", "b", "10.0.0.2", 0, 1, SOCKET)]
    (finding,) = judge_addresses(nodes)
    assert (finding.where, finding.status) == ("n1", WARN)
    assert judge_addresses(nodes[:1]) == []


def test_groups() -> None:
    finding = judge_group("gloo", {"n1": (1.0, "eth0"), "n2": (1.0, "eth0")})
    assert (finding.status, finding.found) == (PASS, "2 processes through eth0, all-reduce is right")
    assert judge_group("gloo", {"n1": (1.0, ""), "n2": (0.0, "")}).status == FAIL
    finding = judge_group("nccl", {"n1": (1.0, ""), "n2": Trouble("Timed out")})
    assert "n2: Timed out" in finding.found
    assert "NCCL_SOCKET_IFNAME" in finding.fix


@pytest.mark.parametrize(
    ("view", "status", "words"),
    [
        (
            StorageView(free=10**12, missing=(), locked=True),
            PASS,
            "/d: writable, the same for all; locks are seen",
        ),
        (StorageView(free=5 * 10**9, missing=()), WARN, "4.657 GiB free"),
        (StorageView(free=10**8, missing=()), FAIL, "95.37 MiB free"),
        (StorageView("no such folder"), FAIL, "/d: no such folder"),
        (StorageView(free=10**12, missing=("n2",)), FAIL, "does not see the files of n2"),
        (StorageView(free=10**12, missing=(), locked=False), FAIL, "does not see the lock of another node"),
        (
            StorageView(free=10**12, missing=(), locked="No locks available"),
            FAIL,
            "cannot be locked: No locks",
        ),
        (StorageView(missing=()), PASS, "/d: writable, the same for all"),
    ],
)
def test_storage(view: StorageView, status: Status, words: str) -> None:
    finding = judge_storage("/d", "n1", view)
    assert finding.status == status
    assert words in finding.found


def test_files_and_locks_of_one_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "own")
    view = write_own(str(tmp_path), folder, "n1")
    assert view.trouble == ""
    assert (view.free or 0) > 0
    assert missing_files(folder, ["n1", "n2"]) == ("n2",)
    assert sees_lock(folder) == "No such file or directory"
    (tmp_path / "own" / "lock").touch()
    assert sees_lock(folder) is False  # nobody holds it
    checkup_storage.remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert write_own(str(tmp_path / "file"), str(tmp_path / "file" / "own"), "n1").trouble == "no such folder"
    assert write_own("/proc", "/proc/own", "n1").trouble.startswith("cannot be written: ")
    assert missing_files(str(tmp_path / "file"), ["n1"]) == ("n1",)


def test_keys_in_a_bucket(s3: str) -> None:
    assert write_own(f"{s3}/runs", f"{s3}/runs/own", "n1") == StorageView()
    assert missing_files(f"{s3}/runs/own", ["n1", "n2"]) == ("n2",)
    checkup_storage.remove(f"{s3}/runs/own")
    assert paths.list_keys(f"{s3}/runs") == []
    assert "no such bucket" in write_own("s3://absent/runs", "s3://absent/runs/own", "n1").trouble


def test_troubles_become_failures() -> None:
    good, findings = separated("prior", {"n1": 5, "n2": Trouble("odd"), "n3": Silence("no answer for 5 s")})
    assert good == {"n1": 5}
    assert [(finding.where, finding.status) for finding in findings] == [("n2", FAIL), ("n3", FAIL)]
    assert as_trouble(ValueError("first\nsecond")) == Trouble("ValueError: first")
    finding = combined(
        "host", "n1", [Observation("a"), Observation("b", WARN, "do"), Observation("c", WARN, "do")]
    )
    assert (finding.status, finding.found, finding.fix) == (WARN, "a; b; c", "do")


def test_ray_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then this process says what it can."""

    def init(*_: object, **__: object) -> None:
        raise OSError("AF_UNIX path length cannot exceed 107 bytes: /x")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", init)
    assert ray_cluster.cluster_address() is None
    found = check_cluster()
    assert (found[0].check, found[0].status) == ("Ray", FAIL)
    assert "RAY_TMPDIR" in found[0].fix
    assert {finding.check for finding in found} == {"Ray", "versions", "GPUs", "host"}


def test_a_program_that_is_no_ray() -> None:
    """It accepts connections and says nothing, as a Ray does that is stuck."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        (finding,) = check_connection(f"127.0.0.1:{server.getsockname()[1]}", 4.0)
    assert finding.status == FAIL
    assert "Ray cannot connect: no answer for 4 s" in finding.found


@pytest.mark.parametrize(
    ("path", "words"), [("ftp://host/x", "cannot open ftp://"), ("s3://bucket", "needs a bucket and a name")]
)
def test_paths_that_cannot_be(path: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_cluster([path])
    assert paths.scheme("/tmp") == "file"
