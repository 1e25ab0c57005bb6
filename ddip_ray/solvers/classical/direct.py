"""Filtered back-projection, zero filling and conjugate gradients: what every comparison starts from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ddip_ray.config.settings import CGSettings, FBPSettings
from ddip_ray.errors import InputError
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.core.steps import pseudo_inverse, relative_residual


class Direct(ABC):
    """One step, from the measurements to the image."""

    num_steps, nfe, adapt_nfe = 1, 0, 0
    prior_digest = adapter = None

    def __init__(self, problem: SlabProblem, communicator: Communicator) -> None:
        self.problem, self.communicator = problem, communicator
        self.x = problem.nothing()

    @abstractmethod
    def solve(self) -> Tensor:
        """The slab's image, (z, y, x)."""

    def step(self, i: int) -> StepReport:
        self.x = self.solve()
        return StepReport(relative_residual(self.problem, self.x, self.communicator))

    def result(self) -> Tensor:
        return self.x

    def keep(self, state: State) -> None:
        self.x = state.slices("x", self.x, self.problem.slab)


class FBP(Direct):
    """Filtered back-projection, slice by slice."""

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: FBPSettings) -> None:
        super().__init__(problem, communicator)
        if problem.operator.direct_method != "fbp":
            raise InputError("fbp reconstructs parallel-beam CT", "For MRI: --method zero-filled.")
        self.settings = settings

    def solve(self) -> Tensor:
        return self.problem.operator.direct_inverse(self.problem.y, self.settings.filter_name)


class ZeroFilled(Direct):
    """What the samples alone show, with nothing made up (MRI); of a trajectory, by gridding."""

    def __init__(self, problem: SlabProblem, communicator: Communicator) -> None:
        super().__init__(problem, communicator)
        if problem.operator.direct_method != "zero-filled":
            raise InputError("zero-filled reconstructs MRI", "For CT: --method fbp.")

    def solve(self) -> Tensor:
        return self.problem.operator.direct_inverse(self.problem.y)


class CG(Direct):
    """Least squares by CG from zero (MRI: CG-SENSE); the number of iterations regularises."""

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: CGSettings) -> None:
        super().__init__(problem, communicator)
        self.settings = settings

    def solve(self) -> Tensor:
        return pseudo_inverse(self.problem.operator, self.problem.y, self.settings.iterations)
