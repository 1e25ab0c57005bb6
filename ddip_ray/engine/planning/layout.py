"""What will run where: slabs and devices, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.ray.resources import num_cores, require_gpus
from ddip_ray.engine.ray.resources import num_gpus as gpus_there_are
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.solvers.core.slab import Slab

ExecutorName = Literal["ray", "local"]


@dataclass(frozen=True)
class RunPlan:
    """One slab a worker, whole shards each, in z order."""

    slabs: tuple[Slab, ...]
    num_slices: int
    shard_slices: int
    device: str
    threads_per_worker: int

    @property
    def num_workers(self) -> int:
        return len(self.slabs)

    def on_fewer(self, num_workers: int) -> RunPlan:
        return replace(self, slabs=plan_slabs(self.num_slices, self.shard_slices, num_workers))


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


def make_plan(
    acquisition: Acquisition,
    num_workers: int | None,
    num_gpus: int | None,
    executor: ExecutorName | None,
    num_threads: int | None = None,
    *,
    elsewhere: bool = False,
) -> tuple[RunPlan, ExecutorName]:
    """Resolve flags into slabs, device and executor; ``elsewhere``: GPUs need not be here."""
    if num_gpus is not None and num_workers is not None and num_gpus != num_workers:
        raise InputError(
            f"--gpus {num_gpus} and --workers {num_workers} disagree", "One worker drives one GPU."
        )
    if not elsewhere:
        require_gpus(num_gpus or 0)
    wanted = num_gpus or num_workers or 1
    if executor == "local" and wanted > 1:
        raise InputError(f"the local executor is one worker, {wanted} asked for", "Use --executor ray.")
    shape = acquisition.num_slices, acquisition.shard_slices
    name: ExecutorName = executor or ("ray" if wanted > 1 or num_gpus else "local")
    threads = num_threads or max(1, num_cores() // wanted)
    return RunPlan(plan_slabs(*shape, wanted), *shape, "cuda" if num_gpus else "cpu", threads), name


def default_layout(acquisition: Acquisition, config: RunConfig) -> tuple[int | None, int | None]:
    """(workers, GPUs) for a user who did not say. A network uses one core a worker (see `one_thread`)."""
    shards = -(-acquisition.num_slices // acquisition.shard_slices)
    if gpus := gpus_there_are():
        return None, min(gpus, shards)
    return (min(num_cores(), shards) if config.uses_prior else 1), None
