"""Workers as Ray actors: Ray places, starts, watches and ends them; they talk to each other directly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ddip_ray.engine.ray.actor import CONTROL, WorkerActor
from ddip_ray.engine.ray.cluster import connected
from ddip_ray.engine.ray.driver_files import DriverFiles
from ddip_ray.engine.ray.failures import root_cause
from ddip_ray.engine.worker import MethodFacts, Worker, WorkerTask
from ddip_ray.errors import InputError, NoRoom, WorkersLost

T = TypeVar("T")

START_TIMEOUT = 120.0  # seconds for actors to be placed and to import torch
ENOUGH_TIMEOUT = 30.0  # to place all workers, where fewer will do
FEWER_TIMEOUT = 3.0  # to place each smaller number that is tried then
STEP_TIMEOUT = 6 * 3600.0  # a worker that dies or hangs is found sooner
PING_EVERY, PING_TIMEOUT = 10.0, 120.0  # for busy workers; a stopped one does not answer


class RayExecutor:
    """One actor for each slab; all are placed, or none is.

    Args:
        num_cpus: cores of the Ray that is started if there is no cluster, at least.
        on_gpus: whether each actor has a GPU.
        adapter: contents of the initial adapter's file; None without one.
    """

    def __init__(self, num_cpus: int, on_gpus: bool = False, adapter: bytes | None = None) -> None:
        self.bundle = {"CPU": 1, "GPU": 1} if on_gpus else {"CPU": 1}
        self.adapter = adapter
        self.actors: list[Any] = []
        self.placement: Any = None
        self.cluster = connected(num_cpus)

    def __enter__(self) -> RayExecutor:
        self.cluster.__enter__()
        return self

    def place(self, num_workers: int, fewest: int) -> int:
        """Reserve room on the cluster: for ``num_workers`` or, after a while, one fewer at a time.

        Raises:
            NoRoom: there is no room for ``fewest`` workers.
        """
        for number in range(num_workers, fewest - 1, -1):
            patience = FEWER_TIMEOUT if number < num_workers else ENOUGH_TIMEOUT
            if self._is_placed(number, START_TIMEOUT if number == fewest else patience):
                return number
        import ray

        total, free = ray.cluster_resources(), ray.available_resources()
        room = ", ".join(f"{free.get(r, 0):.0f} of {total.get(r, 0):.0f} {r}s free" for r in self.bundle)
        raise NoRoom(
            f"no room for {fewest} workers of {self.bundle} after {START_TIMEOUT:.0f} s ({room})",
            "Ask for fewer, free what others hold, or go on with fewer (`elastic=True`).",
        )

    def _is_placed(self, num_workers: int, timeout: float) -> bool:
        from ray.util.placement_group import placement_group, remove_placement_group

        placement = placement_group([self.bundle] * num_workers, strategy="PACK")
        if placement.wait(timeout):
            self.placement = placement
            return True
        remove_placement_group(placement)
        return False

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts:
        """Start one actor for each task and let them join one process group.

        Raises:
            InputError: found by any worker, or the machines have different priors.
            WorkersLost: a worker died or does not answer.
        """
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        ray.method(concurrency_group=CONTROL)(WorkerActor.ping)
        remote = ray.remote(concurrency_groups={CONTROL: 1})(WorkerActor)
        self.actors = [
            remote.options(
                num_cpus=1,
                num_gpus=self.bundle.get("GPU", 0),
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self.placement, rank),
            ).remote(rank, len(tasks))
            for rank in range(len(tasks))
        ]
        self._require_answers(range(len(tasks)), START_TIMEOUT)
        address = self._gather([self.actors[0].host_store.remote()], START_TIMEOUT)[0]
        files = ray.put(DriverFiles.read(tasks[0].config, self.adapter))
        refs = [
            actor.start.remote(address, task, files) for actor, task in zip(self.actors, tasks, strict=True)
        ]
        facts: list[MethodFacts] = self._gather(refs, STEP_TIMEOUT)
        if len({own.prior_digest for own in facts}) > 1:
            raise InputError(
                f"prior {tasks[0].config.prior}: not the same on all machines", "Copy it to each again."
            )
        return facts[0]

    def each(self, do: Callable[[Worker], T]) -> list[T]:
        """Call ``do`` on all workers at the same time; the answers come in the order of the slabs."""
        return self._gather([actor.do.remote(do) for actor in self.actors], STEP_TIMEOUT)

    def _gather(self, refs: list[Any], timeout: float) -> list[Any]:
        """All answers, or the error that caused the others.

        Raises:
            InputError: a worker found the user's input wrong.
            WorkersLost: a worker died, or does not answer within ``timeout`` seconds.
        """
        import ray

        waiting, deadline = refs, time.monotonic() + timeout
        try:
            while waiting and time.monotonic() < deadline:
                done, waiting = ray.wait(waiting, num_returns=1, timeout=PING_EVERY)
                ray.get(done)
                if not done:
                    busy = [rank for rank, ref in enumerate(refs) if ref in waiting]
                    self._require_answers(busy, PING_TIMEOUT)
            if not waiting:
                return list(ray.get(refs))
        except ray.exceptions.RayError:
            pass
        raise root_cause(refs)

    def _require_answers(self, ranks: Sequence[int], timeout: float) -> None:
        """Find workers that are stopped or cut off, for which the others would wait until they time out."""
        import ray

        pings = {self.actors[rank].ping.remote(): rank for rank in ranks}
        _, silent = ray.wait(list(pings), num_returns=len(pings), timeout=timeout)
        if silent:
            raise WorkersLost(f"worker {pings[silent[0]]} has not answered for {timeout:.0f} s")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray
        from ray.util.placement_group import remove_placement_group

        for actor in self.actors:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)
        if self.placement is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                remove_placement_group(self.placement)
        self.actors, self.placement = [], None
        self.cluster.__exit__(None, None, None)
