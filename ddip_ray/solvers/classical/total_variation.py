"""3D total variation by ADMM: the classical method to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig, TVSettings
from ddip_ray.numerics.conjugate_gradient import Blocks, cgls
from ddip_ray.numerics.inner_product import squared_modulus
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import Method, StepReport
from ddip_ray.solvers.core.network_calls import NetworkCalls
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slice_coupling import SliceCoupling
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.core.steps import relative_residual


@dataclass(frozen=True)
class TVState:
    """Where ADMM stands between two iterations; every tensor is (z, y, x).

    Attributes:
        x: the image that the data determine.
        split: d, one tensor for each axis of the gradient.
        dual: scaled duals of ∇x = d.
        positive: v, the image that is not negative.
        positive_dual: scaled dual of x = v.
    """

    x: Tensor
    split: tuple[Tensor, ...]
    dual: tuple[Tensor, ...]
    positive: Tensor
    positive_dual: Tensor


class TotalVariation:
    """min_x ½ ‖(A x − y)/‖A‖‖² + λ ‖∇x‖₂,₁ subject to x ≥ 0 if real, with the isotropic 3D gradient.

    The model is that of Rudin, Osher and Fatemi (Physica D 1992, doi:10.1016/0167-2789(92)90242-F). ADMM on
    the splits ∇x = d and x = v (Boyd et al. 2011, doi:10.1561/2200000016); the x-update is a few CG
    iterations from the last x. Slabs exchange one slice for D_z, and CG its scalars.
    """

    prior_digest = adapter = None
    planned = NetworkCalls()

    def __init__(self, problem: SlabProblem, communicator: Communicator, settings: TVSettings) -> None:
        self.problem, self.communicator, self.settings = problem, communicator, settings
        self.num_steps = settings.iterations
        self.A, self.coupling = problem.operator, SliceCoupling.of(problem, communicator)
        self.scale = 1 / problem.operator_norm()
        self.lam = settings.lam if settings.lam is not None else default_lam(problem)
        self.rho = self.lam / settings.edge
        self.sqrt_rho = math.sqrt(self.rho)
        zeros = problem.zeros()
        self.nonnegative = settings.nonnegative and not zeros.is_complex()
        self.state = TVState(zeros, (zeros,) * 3, (zeros,) * 3, zeros, zeros)

    def step(self, i: int) -> StepReport:
        """Take one ADMM iteration."""
        with torch.no_grad():
            before = self.state
            self.state, gradient = self.iterated(before)
            converged = self.converged(gradient, self.state, before)
        residual = relative_residual(self.problem, self.state.positive, self.communicator)
        return StepReport(residual, last=converged)

    def iterated(self, state: TVState) -> tuple[TVState, list[Tensor]]:
        """The state after an ADMM iteration, which updates x, both splits and their duals; and ∇x."""
        differences = [self.sqrt_rho * (d - u) for d, u in zip(state.split, state.dual, strict=True)]
        y = self.scale * self.problem.y, *differences, self.sqrt_rho * (state.positive - state.positive_dual)
        r = tuple(target - now for target, now in zip(y, self.forward(state.x), strict=True))
        x = (
            state.x
            + cgls(self.forward, self.adjoint, r, self.settings.cg_iterations, norms=self.coupling.norms).x
        )
        gradient = self.coupling.gradient(x)
        raised = [g + u for g, u in zip(gradient, state.dual, strict=True)]
        length = torch.sqrt(
            squared_modulus(raised[0]) + squared_modulus(raised[1]) + squared_modulus(raised[2])
        )
        shrink = (1 - self.settings.edge / length.clamp_min(1e-12)).clamp_min(0)  # λ/ρ = edge
        split = tuple(shrink * g for g in raised)
        raised_x = x + state.positive_dual
        positive = raised_x.clamp_min(0) if self.nonnegative else raised_x
        dual = tuple(g - d for g, d in zip(raised, split, strict=True))
        return TVState(x, split, dual, positive, raised_x - positive), gradient

    def converged(self, gradient: list[Tensor], state: TVState, before: TVState) -> bool:
        """Whether primal and dual residual are small: Boyd et al., section 3.3.1, relative terms alone."""
        norms = self.coupling.norms
        unsplit = (*gradient, state.x)
        split, last = (*state.split, state.positive), (*before.split, before.positive)
        apart = tuple(a - b for a, b in zip(unsplit, split, strict=True))
        moved = self.unsplit_adjoint(tuple(a - b for a, b in zip(split, last, strict=True)))
        pulled = self.unsplit_adjoint((*state.dual, state.positive_dual))
        primal = norms(apart) / torch.maximum(norms(unsplit), norms(split))
        dual = norms((moved,)) / norms((pulled,))
        return bool((torch.maximum(primal, dual).sqrt() <= self.settings.tol).all())

    def result(self) -> Tensor:
        """The slab's image, (z, y, x)."""
        return self.state.positive

    def network_calls(self) -> NetworkCalls:
        """None are made."""
        return NetworkCalls()

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the state to ``recorder``, or take it from there."""
        slab, state = self.problem.slab, self.state
        self.state = TVState(
            x=recorder.slices("x", state.x, slab),
            split=tuple(recorder.slices(f"split_{axis}", d, slab) for axis, d in enumerate(state.split)),
            dual=tuple(recorder.slices(f"dual_{axis}", u, slab) for axis, u in enumerate(state.dual)),
            positive=recorder.slices("positive", state.positive, slab),
            positive_dual=recorder.slices("positive_dual", state.positive_dual, slab),
        )

    def forward(self, x: Tensor) -> Blocks:
        """(A x/‖A‖, √ρ ∇x, √ρ x), the gradient as one block an axis."""
        differences = [self.sqrt_rho * d for d in self.coupling.gradient(x)]
        return self.scale * self.A.forward(x), *differences, self.sqrt_rho * x

    def adjoint(self, r: Blocks) -> Tensor:
        """The adjoint of `forward`."""
        return self.scale * self.A.adjoint(r[0]) + self.sqrt_rho * self.unsplit_adjoint(r[1:])

    def unsplit_adjoint(self, r: Blocks) -> Tensor:
        """The adjoint of x -> (∇x, x)."""
        *differences, x = r
        return self.coupling.gradient_adjoint(differences) + x


def default_lam(problem: SlabProblem) -> float:
    """λ from the noise: in CT by the best of a grid on an abdomen from 30 views, in MRI σ²/b.

    That is the most probable image if steps between voxels are exponential with mean b. The best λ on the
    head (lines 3- and 4-fold, Poisson discs 8-fold; 0.5 to 8 % of noise) is near that of b = 0.06.
    """
    std = problem.noise_std / problem.operator_norm()
    return 3e-6 + (std**2 / 0.06 if problem.y.is_complex() else 2e-2 * std)


def build(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: None) -> Method:
    """Total variation; `solvers.build` describes the arguments."""
    return TotalVariation(problem, communicator, config.tv)
