"""Checks of each machine: its GPUs, memory and disks, whether the priors load, and its clock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ddip_ray.doctor.findings import Finding, Observation, Status, combined, separated
from ddip_ray.doctor.nodes import Probes
from ddip_ray.engine.ray.resources import available_bytes
from ddip_ray.numerics.cores import own_cores
from ddip_ray.units import format_bytes

MIN_MEMORY = 2 * 2**30
MIN_SHARED_MEMORY = 512 * 2**20  # a container has 64 MiB by default
MIN_TEMPORARY = 2 * 2**30
MAX_DISK_USED = 0.95  # the share of a disk in use at which Ray stops writing to it
MAX_SOCKET_PATH = 107  # characters; limit of AF_UNIX
SKEW_WARN, SKEW_FAIL = 2.0, 30.0  # seconds; a cohort's driver takes over entries that are two minutes old


@dataclass(frozen=True)
class Gpu:
    """A GPU; ``trouble`` says why it does not compute, and is empty if it does."""

    name: str
    num_bytes: int
    trouble: str = ""


@dataclass(frozen=True)
class GpuFacts:
    """The GPUs that torch sees; ``torch`` names its build, ``trouble`` says why it sees none."""

    gpus: list[Gpu]
    torch: str
    trouble: str = ""


@dataclass(frozen=True)
class HostFacts:
    """A machine's cores, memory and disks.

    Attributes:
        num_cores: CPU cores that this process may use.
        memory: bytes of memory.
        available: bytes of memory that programs can use now.
        shared_memory: bytes of /dev/shm; None where there is none.
        temporary_free: free bytes where Ray keeps its temporary files.
        temporary_total: all bytes there.
    """

    num_cores: int
    memory: int
    available: int
    shared_memory: int | None
    temporary_free: int
    temporary_total: int


def gpu_facts() -> GpuFacts:
    """The GPUs of this machine, each tried with a small computation."""
    import torch

    build = f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return GpuFacts([], build, str(error).partition("\n")[0].partition(". ")[0])
    return GpuFacts([_tried(index) for index in range(torch.cuda.device_count())], build)


def _tried(index: int) -> Gpu:
    import torch

    properties = torch.cuda.get_device_properties(index)
    trouble = ""
    try:
        ones = torch.ones(8, 8, device=f"cuda:{index}")
        if float((ones @ ones).sum()) != 512.0:
            trouble = "it computes wrong numbers"
    except RuntimeError as error:  # also when its memory is full
        trouble = str(error).partition("\n")[0]
    return Gpu(properties.name, properties.total_memory, trouble)


def host_facts(socket_path: Path) -> HostFacts:
    """The cores, memory and disks of this machine.

    ``socket_path`` is the socket of the node's object store, in Ray's folder for temporary files.
    """
    shared = Path("/dev/shm")
    temporary = shutil.disk_usage(socket_path.parents[2])
    return HostFacts(
        own_cores(),
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        available_bytes(),
        shutil.disk_usage(shared).total if shared.is_dir() else None,
        temporary.free,
        temporary.total,
    )


def load_shipped_priors() -> list[str]:
    """Load every prior that comes with the package.

    Returns:
        Their names.

    Raises:
        InputError: one of them cannot be read.
    """
    from ddip_ray.prior.catalog import find_prior, shipped_priors
    from ddip_ray.prior.load import load_prior

    names = list(shipped_priors())
    for name in names:
        load_prior(find_prior(name))
    return names


def judge_gpus(where: str, num_counted: int, facts: GpuFacts) -> Finding:
    """Judge a node's GPUs; ``num_counted`` is how many of them Ray hands out."""
    num_seen = len(facts.gpus)
    parts = [_one_gpu(index, gpu) for index, gpu in enumerate(facts.gpus)]
    if num_counted > num_seen:
        why = f", {facts.trouble}" if facts.trouble else ""
        words = f"Ray counts {num_counted} GPUs, torch can use {num_seen} ({facts.torch}{why})"
        fix = "Install a build of torch for that node's CUDA driver; see nvidia-smi there."
        parts.append(Observation(words, Status.FAIL, fix))
    elif num_counted < num_seen:
        words = f"Ray counts {num_counted} of {num_seen} GPUs"
        parts.append(Observation(words, Status.WARN, f"Start that node's Ray with --num-gpus {num_seen}."))
    if num_seen:
        parts.append(Observation(facts.torch))
    return combined("GPUs", where, parts or [Observation("CPU")])


def _one_gpu(index: int, gpu: Gpu) -> Observation:
    words = f"GPU {index} {gpu.name} {format_bytes(gpu.num_bytes)}"
    if not gpu.trouble:
        return Observation(words)
    if "out of memory" in gpu.trouble:
        return Observation(
            f"{words}: its memory is full", Status.WARN, "See nvidia-smi there for who has it."
        )
    return Observation(
        f"{words}: {gpu.trouble}", Status.FAIL, "See nvidia-smi there; a driver may have to be updated."
    )


def judge_wanted_gpus(num_wanted: int, by_node: Mapping[str, int]) -> Finding:
    """Judge whether there are ``num_wanted`` GPUs; ``by_node`` counts those that Ray and torch can use."""
    total = sum(by_node.values())
    places = ", ".join(f"{number} on {where}" for where, number in by_node.items() if number)
    words = f"{num_wanted} asked for, {total} there" + (f" ({places})" if places else "")
    if total >= num_wanted:
        return Finding("GPUs", "all", Status.PASS, words)
    fix = f"Use {total} GPUs at most." if total else "Use workers on CPUs, or add nodes with GPUs."
    return Finding("GPUs", "all", Status.FAIL, words, fix)


def judge_host(where: str, facts: HostFacts, socket_path: Path) -> Finding:
    """Judge whether a node has enough memory and disk for Ray and one worker."""
    shared, free = facts.shared_memory, facts.temporary_free
    used = 1 - free / facts.temporary_total
    length = len(os.fsencode(socket_path))
    return combined(
        "host",
        where,
        [
            Observation(f"{facts.num_cores} cores"),
            _enough(
                f"{format_bytes(facts.available)} of {format_bytes(facts.memory)} of memory free",
                facts.available >= MIN_MEMORY,
                "Free memory there: a worker takes 1 GiB and more.",
            ),
            _enough(
                "no /dev/shm" if shared is None else f"/dev/shm {format_bytes(shared)}",
                shared is not None and shared >= MIN_SHARED_MEMORY,
                "Give /dev/shm more room (docker run --shm-size=1g); Ray keeps objects there.",
            ),
            _enough(
                f"{format_bytes(free)} free for Ray in {socket_path.parents[2]}",
                free >= MIN_TEMPORARY and used <= MAX_DISK_USED,
                "Free some space there, or start Ray with another --temp-dir.",
            ),
            *([] if length <= MAX_SOCKET_PATH else [_too_long(length)]),
        ],
    )


def _enough(words: str, is_enough: bool, fix: str) -> Observation:
    return Observation(words) if is_enough else Observation(words, Status.WARN, fix)


def _too_long(length: int) -> Observation:
    words = f"Ray's sockets have paths of {length} characters, of {MAX_SOCKET_PATH} at most"
    return Observation(words, Status.FAIL, "Start Ray with a shorter --temp-dir.")


def judge_clock(where: str, offset: float, round_trip: float) -> Finding:
    """Judge a node's clock: ``offset`` seconds ahead of ours, uncertain by half the ``round_trip``."""
    status = Status.PASS
    if abs(offset) > SKEW_WARN:
        status = Status.FAIL if abs(offset) > SKEW_FAIL else Status.WARN
    words = f"{abs(offset):.3f} s {'ahead of' if offset > 0 else 'behind'} ours, ± {round_trip / 2:.3f} s"
    fix = "" if status == Status.PASS else "Let all nodes set their clocks by NTP: cohorts go by them."
    return Finding("clock", where, status, words, fix)


def check_machines(probes: Probes, num_gpus: int | None) -> list[Finding]:
    """Check memory, disks and GPUs of every node; ``num_gpus`` is the number wanted in all, if any."""
    sockets = {name: node.socket_path for name, node in probes.nodes.items()}
    counted = {name: node.num_gpus for name, node in probes.nodes.items()}
    hosts, findings = separated(
        "host", probes.request({name: ("ask", (host_facts, path)) for name, path in sockets.items()})
    )
    findings += [judge_host(where, facts, sockets[where]) for where, facts in hosts.items()]
    gpus, silent = separated("GPUs", probes.ask(gpu_facts))
    findings += silent + [judge_gpus(where, counted[where], facts) for where, facts in gpus.items()]
    if num_gpus is not None:
        usable = {where: min(counted[where], len(facts.gpus)) for where, facts in gpus.items()}
        findings.append(judge_wanted_gpus(num_gpus, usable))
    return findings


def check_priors(probes: Probes) -> list[Finding]:
    """Check that every node can load the priors that come with the package."""
    loaded, findings = separated("prior", probes.ask(load_shipped_priors), "Install ddip-ray there again.")
    return findings + [
        Finding("prior", where, Status.PASS, f"{', '.join(names)} can be loaded")
        for where, names in loaded.items()
    ]


def check_clocks(probes: Probes) -> list[Finding]:
    """Check the clocks, one node after the other, so that no answer is delayed by another."""
    offsets, findings = separated("clock", {name: probes.clock_offset(name) for name in list(probes.nodes)})
    return findings + [judge_clock(where, *measured) for where, measured in offsets.items()]
