"""The cores, GPUs and memory of this machine or, if ``RAY_ADDRESS`` is set, of that cluster."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from ddip_ray.engine.ray.cluster import cluster_address, connected
from ddip_ray.errors import InputError, NoRoom
from ddip_ray.numerics.cores import own_cores

_ANSWER_TIMEOUT = 600.0  # seconds; a cluster may have to start a node


def num_gpus() -> int:
    """Number of GPUs."""
    address = cluster_address()
    if address is not None:
        return int(_resources(address).get("GPU", 0))
    import torch

    return torch.cuda.device_count()


def num_cores() -> int:
    """Number of cores that workers can use."""
    address = cluster_address()
    if address is not None:
        return max(1, int(_resources(address).get("CPU", 1)))
    return own_cores()


def require_gpus(wanted: int) -> None:
    """Refuse a number of GPUs that this machine does not have. A cluster is not asked, because it may grow.

    Raises:
        InputError: this machine has fewer than ``wanted`` GPUs.
    """
    if cluster_address() is None and wanted > num_gpus():
        raise InputError(
            f"{wanted} GPUs asked for, {num_gpus()} in the machine",
            "Use fewer (`num_gpus`), or workers on CPUs (`num_workers`).",
        )


def total_host_bytes() -> int:
    """Bytes of host memory that programs can use, on this machine or on all nodes together."""
    address = cluster_address()
    if address is not None and "memory" in (found := _resources(address)):
        return int(found["memory"])
    return available_bytes()


def available_bytes() -> int:
    """Bytes of host memory that programs can use on this machine, or in its container if that is less."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, int(limit) - int(used))


def gpu_bytes() -> int:
    """Bytes of memory of one GPU: this machine's first or, if it has none, one of the cluster's.

    Raises:
        NoRoom: no GPU of the cluster became free.
    """
    import torch

    def total() -> int:
        return int(torch.cuda.get_device_properties(0).total_memory)

    if torch.cuda.is_available():
        return total()
    import ray

    with connected(1):
        answer = ray.remote(num_gpus=1)(total).remote()
        ready, _ = ray.wait([answer], timeout=_ANSWER_TIMEOUT)
        if not ready:
            raise NoRoom(f"no GPU of the cluster was free within {_ANSWER_TIMEOUT:.0f} s")
        return int(ray.get(answer))


@cache
def _resources(address: str) -> dict[str, float]:
    """The resources that all nodes of the cluster give to Ray, by Ray's names."""
    import ray

    with connected(1):
        found: dict[str, float] = ray.cluster_resources()
    return found
