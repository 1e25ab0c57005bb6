"""Filtered back-projection, zero filling and conjugate gradients: what every comparison starts from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ddip_ray.config.settings import CGSettings, FBPSettings, RunConfig
from ddip_ray.errors import InputError
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import Method, StepReport
from ddip_ray.solvers.core.network_calls import NetworkCalls
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.core.steps import pseudo_inverse, relative_residual


class Direct(ABC):
    """A method of one step, from the measurements to the image."""

    num_steps, planned = 1, NetworkCalls()
    prior_digest = adapter = None

    def __init__(self, problem: SlabProblem, communicator: Communicator) -> None:
        self.problem, self.communicator = problem, communicator
        self.x = problem.zeros()

    @abstractmethod
    def solve(self) -> Tensor:
        """The slab's image, (z, y, x)."""

    def step(self, i: int) -> StepReport:
        """Solve."""
        self.x = self.solve()
        return StepReport(relative_residual(self.problem, self.x, self.communicator))

    def result(self) -> Tensor:
        """The slab's image, (z, y, x)."""
        return self.x

    def network_calls(self) -> NetworkCalls:
        """None are made."""
        return NetworkCalls()

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the image to ``recorder``, or take it from there."""
        self.x = recorder.slices("x", self.x, self.problem.slab)


class FBP(Direct):
    """Filtered back-projection, slice by slice."""

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: FBPSettings) -> None:
        super().__init__(problem, communicator)
        if problem.operator.direct_method != "fbp":
            raise InputError("fbp reconstructs parallel-beam CT", "For MRI: --method zero-filled.")
        self.settings = settings

    def solve(self) -> Tensor:
        """The filtered back-projection of the sinogram, (z, y, x)."""
        return self.problem.operator.direct_inverse(self.problem.y, self.settings.filter_name)


class ZeroFilled(Direct):
    """MRI with zeros in place of all that was not sampled; by gridding for a trajectory."""

    def __init__(self, problem: SlabProblem, communicator: Communicator) -> None:
        super().__init__(problem, communicator)
        if problem.operator.direct_method != "zero-filled":
            raise InputError("zero-filled reconstructs MRI", "For CT: --method fbp.")

    def solve(self) -> Tensor:
        """The zero-filled image, (z, y, x)."""
        return self.problem.operator.direct_inverse(self.problem.y)


class CG(Direct):
    """Least squares by CG from zero; the number of iterations regularises.

    Hestenes and Stiefel (Methods of Conjugate Gradients for Solving Linear Systems, 1952,
    doi:10.6028/jres.049.044). In MRI with several coils this is CG-SENSE (Pruessmann et al., Advances in
    Sensitivity Encoding with Arbitrary k-Space Trajectories, MRM 2001, doi:10.1002/mrm.1241).
    """

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: CGSettings) -> None:
        super().__init__(problem, communicator)
        self.settings = settings

    def solve(self) -> Tensor:
        """The least-squares image after a given number of iterations, (z, y, x)."""
        return pseudo_inverse(self.problem.operator, self.problem.y, self.settings.iterations)


def build_fbp(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: None) -> Method:
    """Filtered back-projection; `solvers.build` describes the arguments."""
    return FBP(problem, communicator, config.fbp)


def build_zero_filled(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: None
) -> Method:
    """Zero filling; `solvers.build` describes the arguments."""
    return ZeroFilled(problem, communicator)


def build_cg(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: None) -> Method:
    """Conjugate gradients; `solvers.build` describes the arguments."""
    return CG(problem, communicator, config.cg)
