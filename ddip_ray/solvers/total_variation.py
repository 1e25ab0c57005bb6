"""3D total variation by ADMM: the classical method to beat."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.operators.conjugate_gradient import Blocks, cgls
from ddip_ray.operators.finite_difference import difference, difference_adjoint
from ddip_ray.solvers.communicator import Communicator
from ddip_ray.solvers.coupling import SliceCoupling
from ddip_ray.solvers.method import StepReport
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.settings import TVSettings
from ddip_ray.solvers.steps import relative_residual


class TotalVariation:
    """min_x ½ ‖(A x − y)/‖A‖‖² + λ ‖∇x‖₂,₁ subject to x ≥ 0, with the isotropic 3D gradient.

    ADMM on the splits ∇x = d and x = v (Boyd et al. 2011, doi:10.1561/2200000016); the x-update is a
    few CG iterations from the last x. Slabs exchange one slice for D_z, and CG its scalars.
    """

    nfe, adapt_nfe, prior_digest, adapter = 0, 0, None, None

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: TVSettings) -> None:
        self.problem, self.communicator, self.settings = problem, communicator, settings
        self.num_steps = settings.iterations
        self.A, self.coupling = (
            problem.operator,
            SliceCoupling(communicator, problem.slab, problem.num_slices),
        )
        self.scale = 1 / problem.operator_norm()
        self.lam = settings.lam if settings.lam is not None else default_lam(problem)
        self.rho = self.lam / settings.edge
        self.stiff = math.sqrt(self.rho)
        self.x = problem.y.new_zeros(len(problem.y), *self.A.image_shape)
        self.split = self.dual = [self.x] * 3
        self.positive = self.positive_dual = self.x

    def step(self, i: int) -> StepReport:
        with torch.no_grad():
            steps = [self.stiff * (d - u) for d, u in zip(self.split, self.dual, strict=True)]
            y = self.scale * self.problem.y, *steps, self.stiff * (self.positive - self.positive_dual)
            iterations, norms = self.settings.cg_iterations, self.coupling.norms
            self.x = cgls(self.forward, self.adjoint, y, self.x, iterations, norms=norms).x
            raised = [g + u for g, u in zip(self.gradient(self.x), self.dual, strict=True)]
            length = torch.sqrt(raised[0] * raised[0] + raised[1] * raised[1] + raised[2] * raised[2])
            shrink = (1 - self.settings.edge / length.clamp_min(1e-12)).clamp_min(0)  # λ/ρ = edge
            self.split = [shrink * g for g in raised]
            self.dual = [g - d for g, d in zip(raised, self.split, strict=True)]
            raised_x = self.x + self.positive_dual
            self.positive = raised_x.clamp_min(0) if self.settings.nonnegative else raised_x
            self.positive_dual = raised_x - self.positive
        return StepReport(relative_residual(self.problem, self.positive, self.communicator))

    def result(self) -> Tensor:
        return self.positive

    def forward(self, x: Tensor) -> Blocks:
        """(A x/‖A‖, √ρ ∇x, √ρ x), the gradient as one block an axis."""
        steps = [self.stiff * d for d in self.gradient(x)]
        return self.scale * self.A.forward(x), *steps, self.stiff * x

    def adjoint(self, r: Blocks) -> Tensor:
        measured, *steps, x = r
        return self.scale * self.A.adjoint(measured) + self.stiff * (self.gradient_adjoint(steps) + x)

    def gradient(self, x: Tensor) -> list[Tensor]:
        """Differences along z, y and x, each (z, y, x) with a zero at the end of its axis."""
        return [self.coupling.difference(x), _filled(difference(x, 1), 1), _filled(difference(x, 2), 2)]

    def gradient_adjoint(self, d: list[Tensor]) -> Tensor:
        inner = [d[axis].narrow(axis, 0, d[axis].shape[axis] - 1) for axis in (1, 2)]
        return (
            self.coupling.difference_adjoint(d[0])
            + difference_adjoint(inner[0], 1)
            + difference_adjoint(inner[1], 2)
        )


def default_lam(problem: SlabProblem) -> float:
    """λ from the noise, by the best of a grid on CT: bench_quality.py --methods tv --set 'tv={"lam": …}'."""
    return 1e-5 + 2e-2 * problem.noise_std / problem.operator_norm()


def _filled(d: Tensor, axis: int) -> Tensor:
    return torch.cat([d, torch.zeros_like(d.narrow(axis, 0, 1))], dim=axis)
