"""Workers as Ray actors. Ray places, starts, watches and ends them; they talk to each other directly."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ddip_ray.engine.ray_failures import root_cause
from ddip_ray.engine.worker import MethodFacts, Worker, WorkerTask
from ddip_ray.errors import InputError

T = TypeVar("T")

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # a private cluster on this machine; a shared one sets its own token
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
START_TIMEOUT = 120.0  # seconds for actors to be placed and to import torch
STEP_TIMEOUT = 6 * 3600.0  # a worker that hangs is found sooner, by the others
COLLECTIVE_TIMEOUT = 600.0


class _Actor:
    """A few lines around `Worker`: everything else is the worker's."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self.store: Any = None

    def host_store(self) -> tuple[str, int]:
        import ray.util

        from ddip_ray.engine.process_group import host_store

        self.store, port = host_store(COLLECTIVE_TIMEOUT)
        return ray.util.get_node_ip_address(), port

    def start(self, address: tuple[str, int], task: WorkerTask) -> MethodFacts:
        from ddip_ray.engine.process_group import ProcessGroup

        backend = "nccl" if task.device == "cuda" else "gloo"
        group = ProcessGroup(
            self.store,
            address,
            rank=self.rank,
            world_size=self.world_size,
            backend=backend,
            timeout_seconds=COLLECTIVE_TIMEOUT,
        )
        self.worker = Worker(task, group)
        return self.worker.facts()

    def do(self, function: Callable[[Worker], Any]) -> Any:
        return function(self.worker)


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Ray takes over SIGTERM, by which clusters warn before they end a job."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


class RayExecutor:
    """One actor a slab, placed together or not at all."""

    def __init__(self, num_workers: int, num_gpus: int, address: str | None = None) -> None:
        self.num_workers, self.num_gpus = num_workers, num_gpus
        self.address = address or os.environ.get("RAY_ADDRESS")
        self.actors: list[Any] = []
        self.placement: Any = None
        self.owns_cluster = False

    def __enter__(self) -> RayExecutor:
        for name, value in QUIET.items():
            if name != "RAY_AUTH_MODE" or self.address is None:
                os.environ.setdefault(name, value)
        import ray

        if not ray.is_initialized():
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            if self.address is None:
                # The object store carries nothing but control messages: no volume passes through it.
                quiet |= {"include_dashboard": False, "object_store_memory": 100 * 2**20}
                quiet["num_cpus"] = max(self.num_workers, os.cpu_count() or 1)
            with _own_signal_handlers():
                ray.init(address=self.address, **quiet)
            self.owns_cluster = True
        available = int(ray.cluster_resources().get("GPU", 0))
        if self.num_gpus > available:
            self.__exit__(None, None, None)
            raise InputError(
                f"{self.num_gpus} GPUs asked for, {available} in the machine or cluster",
                "Use fewer --gpus, or --workers for CPU workers.",
            )
        return self

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        gpus = 1 if self.num_gpus else 0
        bundle = {"CPU": 1, **({"GPU": 1} if gpus else {})}
        self.placement = placement_group([bundle] * len(tasks), strategy="PACK")
        try:
            ray.get(self.placement.ready(), timeout=START_TIMEOUT)
        except ray.exceptions.GetTimeoutError as error:
            raise InputError(
                f"the cluster has no room for {len(tasks)} workers of {bundle} within {START_TIMEOUT:.0f} s",
                "Free resources, or ask for fewer workers.",
            ) from error
        remote = ray.remote(_Actor)
        self.actors = [
            remote.options(
                num_cpus=1,
                num_gpus=gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self.placement, rank),
            ).remote(rank, len(tasks))
            for rank in range(len(tasks))
        ]
        address = self._gather([self.actors[0].host_store.remote()], START_TIMEOUT)[0]
        refs = [actor.start.remote(address, task) for actor, task in zip(self.actors, tasks, strict=True)]
        facts: MethodFacts = self._gather(refs, STEP_TIMEOUT)[0]
        return facts

    def each(self, do: Callable[[Worker], T]) -> list[T]:
        return self._gather([actor.do.remote(do) for actor in self.actors], STEP_TIMEOUT)

    def _gather(self, refs: list[Any], timeout: float) -> list[Any]:
        """All results, or the error that was first in cause."""
        import ray

        try:
            return list(ray.get(refs, timeout=timeout))
        except ray.exceptions.RayError:
            error = root_cause(refs)
        raise error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray
        from ray.util.placement_group import remove_placement_group

        for actor in self.actors:
            ray.kill(actor)
        if self.placement is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                remove_placement_group(self.placement)
        self.actors, self.placement = [], None
        if self.owns_cluster:
            ray.shutdown()
            self.owns_cluster = False
