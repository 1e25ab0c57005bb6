"""Workers as processes without Ray: what travels between them is as real, and they begin at once.

A worker of Ray's imports torch and all else anew, for seconds. These are forked from a server that has.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, TypeVar

from ray import cloudpickle

from ddip_ray.engine.ray.process_group import ProcessGroup, host_store, talk_through
from ddip_ray.engine.worker import MethodFacts, Worker, WorkerTask

T = TypeVar("T")

HERE = "127.0.0.1"
TIMEOUT = 600.0  # seconds, of a wait for another worker
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["ddip_ray.solvers.build", "ddip_ray.problems.load", __name__])


class ProcessExecutor:
    """Implements `ddip_ray.engine.executor.Executor`: one forked process a slab, talking through gloo."""

    def __init__(self) -> None:
        self.workers: list[tuple[Any, Connection]] = []

    def __enter__(self) -> ProcessExecutor:
        return self

    def place(self, num_workers: int, fewest: int) -> int:
        return num_workers

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts:
        store, port = host_store(TIMEOUT)
        self.store = store  # the others meet there
        for rank, task in enumerate(tasks):
            ours, theirs = FORKED.Pipe()
            # The server has the environment of its own start.
            about = (theirs, dict(os.environ), port, rank, len(tasks), task)
            process = FORKED.Process(target=serve, args=about, daemon=True)
            process.start()
            theirs.close()
            self.workers.append((process, ours))
        facts: list[MethodFacts] = self._answers()
        return facts[0]

    def each(self, do: Callable[[Worker], T]) -> list[T]:
        for _, connection in self.workers:
            connection.send_bytes(cloudpickle.dumps(do))
        return self._answers()

    def _answers(self) -> list[Any]:
        """One of each worker; the first error, of whichever worker, is raised."""
        answers: dict[int, Any] = {}
        ranks = {connection: rank for rank, (_, connection) in enumerate(self.workers)}
        while len(answers) < len(ranks):
            waiting = [connection for connection, rank in ranks.items() if rank not in answers]
            for connection in multiprocessing.connection.wait(waiting):
                assert isinstance(connection, Connection)
                answer = cloudpickle.loads(connection.recv_bytes())  # EOFError: the process is gone
                if isinstance(answer, BaseException):
                    raise answer
                answers[ranks[connection]] = answer
        return [answers[rank] for rank in range(len(ranks))]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, connection in self.workers:
            process.kill()
            process.join()
            connection.close()
        self.workers = []


def serve(
    connection: Connection,
    environment: Mapping[str, str],
    port: int,
    rank: int,
    world_size: int,
    task: WorkerTask,
) -> None:
    """Be a worker: start, and do what is asked until there is nobody any more who asks."""
    os.environ.update(environment)
    worker: Worker | None = None

    def answer(do: Callable[[], Any]) -> None:
        try:
            found = do()
        except Exception as error:
            found = error
        connection.send_bytes(cloudpickle.dumps(found))

    def start() -> MethodFacts:
        nonlocal worker
        talk_through(HERE)
        group = ProcessGroup(
            None, (HERE, port), rank=rank, world_size=world_size, backend="gloo", timeout_seconds=TIMEOUT
        )
        worker = Worker(task, group)
        return worker.facts()

    answer(start)
    while True:
        try:
            asked = cloudpickle.loads(connection.recv_bytes())
        except EOFError:
            return
        answer(lambda asked=asked: asked(worker))
