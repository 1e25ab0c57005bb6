"""What will run where: slabs and devices, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from ddip_ray.errors import InputError
from ddip_ray.solvers.slab import Slab


@dataclass(frozen=True)
class RunPlan:
    """One slab a worker, whole shards each, in z order."""

    slabs: tuple[Slab, ...]
    num_slices: int
    device: str
    threads_per_worker: int

    @property
    def num_workers(self) -> int:
        return len(self.slabs)


def plan_slabs(num_slices: int, shard_slices: int, num_workers: int) -> tuple[Slab, ...]:
    """Cut a volume into ``num_workers`` slabs of whole shards, as even as shards allow.

    Raises:
        InputError: more workers than slices, or than shards.
    """
    num_shards = -(-num_slices // shard_slices)
    if num_workers < 1:
        raise InputError(f"{num_workers} workers asked for, expected at least 1")
    if num_workers > num_shards:
        raise InputError(
            f"{num_workers} workers for {num_slices} slices in {num_shards} shards of {shard_slices}: "
            "a worker needs at least one whole shard",
            f"Use at most {num_shards} workers.",
        )
    edges = [min(num_slices, (i * num_shards // num_workers) * shard_slices) for i in range(num_workers)]
    return tuple(Slab(a, b) for a, b in zip(edges, [*edges[1:], num_slices], strict=True))
