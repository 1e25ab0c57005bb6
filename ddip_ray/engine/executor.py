"""The seam between a run and where it runs, and the reference implementation: this process."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from ddip_ray.engine.worker import MethodFacts, Worker, WorkerTask, WriteReport
from ddip_ray.io.result import ResultHandle
from ddip_ray.solvers.communicator import Alone
from ddip_ray.solvers.method import StepReport


class Executor(Protocol):
    """Workers that step together. Leaving the context ends them."""

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts: ...

    def step(self, i: int) -> StepReport: ...

    def write(self, handle: ResultHandle) -> WriteReport: ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LocalExecutor:
    """One worker, in this process: the reference that every other executor must agree with."""

    def start(self, tasks: Sequence[WorkerTask]) -> MethodFacts:
        (task,) = tasks
        self.worker = Worker(task, Alone())
        return self.worker.facts()

    def step(self, i: int) -> StepReport:
        return self.worker.step(i)

    def write(self, handle: ResultHandle) -> WriteReport:
        return self.worker.write(handle)

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
