"""Filtered back-projection, zero filling and conjugate gradients: what every comparison starts from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ddip_ray.config.settings import CGSettings, FBPSettings
from ddip_ray.errors import InputError
from ddip_ray.operators.ct.filtered_backprojection import filtered_backprojection
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.operators.mri.gridding import gridded
from ddip_ray.operators.mri.multi_coil import MultiCoil
from ddip_ray.operators.mri.noncartesian import NonCartesianSense
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
        if not isinstance(problem.operator, ParallelBeam):
            raise InputError("fbp reconstructs parallel-beam CT", "For MRI: --method zero-filled.")
        self.operator, self.settings = problem.operator, settings

    def solve(self) -> Tensor:
        return filtered_backprojection(self.operator, self.problem.y, self.settings.filter_name)


def zero_filled(operator: MultiCoil, y: Tensor) -> Tensor:
    """The image that samples make with zeros in place of the others; of a trajectory, by gridding."""
    return gridded(operator, y) if isinstance(operator, NonCartesianSense) else operator.adjoint(y)


class ZeroFilled(Direct):
    """What the samples alone show, with nothing made up (MRI): `zero_filled`."""

    def __init__(self, problem: SlabProblem, communicator: Communicator) -> None:
        super().__init__(problem, communicator)
        if not isinstance(problem.operator, MultiCoil):
            raise InputError("zero-filled reconstructs MRI", "For CT: --method fbp.")
        self.operator = problem.operator

    def solve(self) -> Tensor:
        return zero_filled(self.operator, self.problem.y)


class CG(Direct):
    """Least squares by CG from zero (MRI: CG-SENSE); the number of iterations regularises."""

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: CGSettings) -> None:
        super().__init__(problem, communicator)
        self.settings = settings

    def solve(self) -> Tensor:
        return pseudo_inverse(self.problem.operator, self.problem.y, self.settings.iterations)
