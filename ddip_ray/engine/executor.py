"""The seam between a run and the place where it runs, and the reference executor: this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeVar

import torch

from ddip_ray.engine.worker import MethodFacts, Worker, WorkerTask
from ddip_ray.solvers.core.communicator import Alone

T = TypeVar("T")


class Executor(Protocol):
    """A group of workers that step together, as a context manager: leaving the context ends the workers."""

    def place(self, num_workers: int, fewest: int) -> int:
        """Reserve room for ``num_workers`` workers, or for fewer if there is still no room after a while.

        Args:
            num_workers: number of workers wanted.
            fewest: smallest number of workers to accept.

        Returns:
            The number of workers there is room for.

        Raises:
            NoRoom: there is no room for ``fewest`` workers.
        """
        ...

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts:
        """Start one worker for each task, in the order of the slabs along z.

        Raises:
            InputError: the user's input is wrong, found by any worker.
            WorkersLost: a worker died or hangs.
        """
        ...

    def each(self, do: Callable[[Worker], T]) -> list[T]:
        """Call ``do`` on all workers at the same time; the answers come in the order of the slabs.

        Raises:
            InputError: the user's input is wrong, found by any worker.
            WorkersLost: a worker died or hangs, so the others cannot go on either.
        """
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LocalExecutor:
    """One worker in this process: the reference that every other executor must agree with."""

    def place(self, num_workers: int, fewest: int) -> int:
        """This process always has room for its one worker."""
        return 1

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts:
        """Create the worker of the only task."""
        (task,) = tasks
        self.worker = Worker(task, Alone())
        return self.worker.facts()

    def each(self, do: Callable[[Worker], T]) -> list[T]:
        """Call ``do`` on the worker."""
        return [do(self.worker)]

    def __enter__(self) -> LocalExecutor:
        self._threads = torch.get_num_threads()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._threads)  # as the caller had it
