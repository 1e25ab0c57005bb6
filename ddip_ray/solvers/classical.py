"""Filtered back-projection, zero filling and conjugate gradients: what every comparison starts from."""

from __future__ import annotations

from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.operators.filtered_backprojection import filtered_backprojection
from ddip_ray.operators.gridding import gridded
from ddip_ray.operators.multi_coil import MultiCoil
from ddip_ray.operators.noncartesian_sense import NonCartesianSense
from ddip_ray.operators.parallel_beam import ParallelBeam
from ddip_ray.solvers.communicator import Communicator
from ddip_ray.solvers.method import StepReport
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.settings import CGSettings, FBPSettings
from ddip_ray.solvers.steps import pseudo_inverse, relative_residual


class FBP:
    """Filtered back-projection, slice by slice."""

    num_steps, nfe, adapt_nfe = 1, 0, 0
    prior_digest = adapter = None

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: FBPSettings) -> None:
        if not isinstance(problem.operator, ParallelBeam):
            raise InputError("fbp reconstructs parallel-beam CT", "For MRI: --method zero-filled.")
        self.operator = problem.operator
        self.problem, self.communicator, self.settings = problem, communicator, settings

    def step(self, i: int) -> StepReport:
        self.x = filtered_backprojection(self.operator, self.problem.y, self.settings.filter_name)
        return StepReport(relative_residual(self.problem, self.x, self.communicator))

    def result(self) -> Tensor:
        return self.x


def zero_filled(operator: MultiCoil, y: Tensor) -> Tensor:
    """The image that samples make with zeros in place of the others; of a trajectory, by gridding."""
    return gridded(operator, y) if isinstance(operator, NonCartesianSense) else operator.adjoint(y)


class ZeroFilled:
    """What the samples alone show, with nothing made up (MRI): `zero_filled`."""

    num_steps, nfe, adapt_nfe = 1, 0, 0
    prior_digest = adapter = None

    def __init__(self, problem: SlabProblem, communicator: Communicator) -> None:
        if not isinstance(problem.operator, MultiCoil):
            raise InputError("zero-filled reconstructs MRI", "For CT: --method fbp.")
        self.operator = problem.operator
        self.problem, self.communicator = problem, communicator

    def step(self, i: int) -> StepReport:
        self.x = zero_filled(self.operator, self.problem.y)
        return StepReport(relative_residual(self.problem, self.x, self.communicator))

    def result(self) -> Tensor:
        return self.x


class CG:
    """Least squares by CG from zero (MRI: CG-SENSE); the number of iterations regularises."""

    num_steps, nfe, adapt_nfe = 1, 0, 0
    prior_digest = adapter = None

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: CGSettings) -> None:
        self.problem, self.communicator, self.settings = problem, communicator, settings

    def step(self, i: int) -> StepReport:
        self.x = pseudo_inverse(self.problem.operator, self.problem.y, self.settings.iterations)
        return StepReport(relative_residual(self.problem, self.x, self.communicator))

    def result(self) -> Tensor:
        return self.x
