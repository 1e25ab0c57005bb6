"""The seam between a run and where it runs, and the reference implementation: this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeVar

import torch

from ddip_ray.engine.worker import MethodFacts, Worker, WorkerTask
from ddip_ray.solvers.core.communicator import Alone

T = TypeVar("T")


class Executor(Protocol):
    """Workers that step together. Leaving the context ends them."""

    def place(self, num_workers: int, fewest: int) -> int:
        """Take room for ``num_workers`` or, after a while, for as many as there is room for; how many.

        Raises:
            NoRoom: there is none for ``fewest``.
        """
        ...

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts:
        """One worker for each of as many tasks as there is room for."""
        ...

    def each(self, do: Callable[[Worker], T]) -> list[T]:
        """What ``do`` returns for every worker, all at the same time, in the order of their slabs.

        Raises:
            WorkersLost: a worker died or hangs, and the others could not go on.
            InputError: what the user can mend, found by any worker.
        """
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LocalExecutor:
    """One worker, in this process: the reference that every other executor must agree with."""

    def place(self, num_workers: int, fewest: int) -> int:
        return 1

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts:
        (task,) = tasks
        self.worker = Worker(task, Alone())
        return self.worker.facts()

    def each(self, do: Callable[[Worker], T]) -> list[T]:
        return [do(self.worker)]

    def __enter__(self) -> LocalExecutor:
        self._threads = torch.get_num_threads()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._threads)  # as the caller had it
