"""A worker as a Ray actor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ddip_ray.engine.ray.driver_files import DriverFiles
from ddip_ray.engine.worker import MethodFacts, Worker, WorkerTask

CONTROL = "control"  # concurrency group of the actor's thread that answers while another works
COLLECTIVE_TIMEOUT = 600.0  # seconds


class WorkerActor:
    """The Ray actor around a `Worker`, which does everything else."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self.store: Any = None

    def ping(self) -> None:
        """Answer; in a thread of its own, so that a busy worker answers, too."""

    def host_store(self) -> tuple[str, int]:
        """Open the store at which all workers meet; returns its address."""
        import ray.util

        from ddip_ray.engine.ray.process_group import host_store

        self.store, port = host_store(COLLECTIVE_TIMEOUT)
        return ray.util.get_node_ip_address(), port

    def start(self, address: tuple[str, int], task: WorkerTask, files: DriverFiles) -> MethodFacts:
        """Join the other workers at the store's ``address`` and create the worker.

        ``files`` stand in for files that this machine does not have.
        """
        import ray.util

        from ddip_ray.engine.ray.process_group import ProcessGroup, talk_through

        talk_through(ray.util.get_node_ip_address())
        backend = "nccl" if task.device == "cuda" else "gloo"
        group = ProcessGroup(
            self.store,
            address,
            rank=self.rank,
            world_size=self.world_size,
            backend=backend,
            timeout_seconds=COLLECTIVE_TIMEOUT,
        )
        with files.unpacked(task.config) as config:
            self.worker = Worker(replace(task, config=config), group)
        return self.worker.facts()

    def do(self, function: Callable[[Worker], Any]) -> Any:
        """Call ``function`` with the worker."""
        return function(self.worker)
