"""The layout of a run that a user asks for, and the plan that is made from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.ray import resources
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.solvers.core.slab import Slab

ExecutorName = Literal["ray", "local"]


@dataclass(frozen=True)
class Layout:
    """The place where a run is computed. The default uses every GPU or, if there is none, every core.

    Attributes:
        num_workers: number of workers on CPUs. None: one for each core that a method with a network can
            use, one for the other methods.
        num_gpus: number of GPUs, each with a worker of its own. None: all, unless ``num_workers`` is given.
        executor: "local" for one worker in this process, "ray" for workers on Ray. None: "ray" for several
            workers or GPUs, otherwise "local".
        num_threads: CPU threads of each worker. None: the workers share the cores evenly.
        elastic: whether to go on with fewer workers when there is no room for all.
    """

    num_workers: int | None = None
    num_gpus: int | None = None
    executor: ExecutorName | None = None
    num_threads: int | None = None
    elastic: bool = False

    def __post_init__(self) -> None:
        if None not in (self.num_gpus, self.num_workers) and self.num_gpus != self.num_workers:
            raise InputError(
                f"`num_gpus={self.num_gpus}` and `num_workers={self.num_workers}` disagree",
                "One worker drives one GPU.",
            )
        if self.executor == "local" and self.total > 1:
            raise InputError(
                f"the local executor is one worker, {self.total} asked for", 'Use `executor="ray"`.'
            )

    @property
    def total(self) -> int:
        """Number of workers, on GPUs or CPUs."""
        return self.num_gpus or self.num_workers or 1

    def or_default(self, acquisition: Acquisition, config: RunConfig) -> Layout:
        """The same layout with all GPUs or all cores, if it names no number and may use several workers."""
        if self.num_workers is not None or self.num_gpus is not None or self.executor == "local":
            return self
        shards = -(-acquisition.num_slices // acquisition.shard_slices)
        if gpus := resources.num_gpus():
            return replace(self, num_gpus=min(gpus, shards))
        # A network uses one core a worker (see `one_thread`); the other methods use all from one process.
        return replace(self, num_workers=min(resources.num_cores(), shards) if config.uses_prior else 1)


@dataclass(frozen=True)
class RunPlan:
    """The slabs of a run, one for each worker, and where the workers compute.

    Attributes:
        slabs: whole shards each, in z order; together the volume.
        num_slices: number of slices of the volume.
        shard_slices: number of slices in a shard of the result.
        device: "cuda" or "cpu".
        threads_per_worker: CPU threads of each worker.
        executor: "ray" or "local".
        elastic: whether fewer workers will do when there is no room for all.
    """

    slabs: tuple[Slab, ...]
    num_slices: int
    shard_slices: int
    device: str
    threads_per_worker: int
    executor: ExecutorName
    elastic: bool = False

    @property
    def num_workers(self) -> int:
        """Number of workers."""
        return len(self.slabs)

    @property
    def fewest_workers(self) -> int:
        """The smallest number of workers the run makes do with."""
        return 1 if self.elastic else self.num_workers

    def on_fewer(self, num_workers: int) -> RunPlan:
        """The same plan with ``num_workers`` slabs."""
        return replace(self, slabs=plan_slabs(self.num_slices, self.shard_slices, num_workers))


def plan_slabs(num_slices: int, shard_slices: int, num_workers: int) -> tuple[Slab, ...]:
    """Cut a volume into ``num_workers`` slabs of whole shards, as even as shards allow.

    Raises:
        InputError: there are more workers than slices, or than shards.
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
    acquisition: Acquisition, config: RunConfig, layout: Layout, *, may_lack_gpus: bool = False
) -> RunPlan:
    """Cut the acquisition into slabs and choose device, threads and executor.

    Args:
        acquisition: the acquisition to reconstruct.
        config: the settings; only whether the method has a prior counts.
        layout: what the user asks for.
        may_lack_gpus: whether to plan for GPUs that are not in this machine.

    Raises:
        InputError: more GPUs than there are, or more workers than shards.
    """
    layout = layout.or_default(acquisition, config)
    if not may_lack_gpus:
        resources.require_gpus(layout.num_gpus or 0)
    several = layout.total > 1 or layout.num_gpus
    return RunPlan(
        slabs=plan_slabs(acquisition.num_slices, acquisition.shard_slices, layout.total),
        num_slices=acquisition.num_slices,
        shard_slices=acquisition.shard_slices,
        device="cuda" if layout.num_gpus else "cpu",
        threads_per_worker=layout.num_threads or max(1, resources.num_cores() // layout.total),
        executor=layout.executor or ("ray" if several else "local"),
        elastic=layout.elastic,
    )
