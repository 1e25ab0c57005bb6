"""DDIP: every slice on its own, with an adapter of its own (2D adaptation of a volume)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ddip_ray.solvers.communicator import Communicator
from ddip_ray.solvers.method import Method, StepReport
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.state import State
from ddip_ray.solvers.steps import relative_residual


class PerSlice:
    """A method for each slice of the slab, side by side; nothing of one slice reaches another.

    Linear in the number of slices, in time and in adapters. The published loops over slices never reset the
    adapter, so that their slices inherit from each other.
    """

    adapter = None

    def __init__(
        self, problem: SlabProblem, communicator: Communicator, method_for: Callable[[SlabProblem], Method]
    ) -> None:
        self.problem, self.communicator = problem, communicator
        slab = problem.slab
        self.methods = [method_for(problem.slice(z)) for z in range(slab.start, slab.stop)]
        one = self.methods[0]
        self.num_steps, self.nfe, self.prior_digest = one.num_steps, one.nfe, one.prior_digest
        self.adapt_nfe = problem.num_slices * one.adapt_nfe

    def step(self, i: int) -> StepReport:
        reports = [method.step(i) for method in self.methods]
        residual = relative_residual(self.problem, self.result(), self.communicator)
        return StepReport(residual, self.mean(report.loss for report in reports))

    def result(self) -> Tensor:
        return torch.cat([method.result() for method in self.methods])

    def keep(self, state: State) -> None:
        for z, method in enumerate(self.methods, start=self.problem.slab.start):
            method.keep(state.within(f"slice-{z}"))

    def mean(self, losses: Iterable[float | None]) -> float | None:
        """Over all slices of the volume."""
        own = [loss for loss in losses if loss is not None]
        sums = self.problem.y.new_tensor([sum(own), len(own)], dtype=torch.float64)
        total, count = self.communicator.all_reduce(sums).tolist()
        return total / count if count else None
