"""DiffusionMBIR: total variation along z in the data consistency (Chung et al., CVPR 2023, 2211.10655)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.config.settings import MBIRSettings, RunConfig
from ddip_ray.numerics.inner_product import modulus, slice_dot, slice_dot_real
from ddip_ray.numerics.proximal import project_to_ball
from ddip_ray.prior.denoiser import Prior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import (
    LAST_CORRECTION,
    Carried,
    DataConsistency,
    DataConsistencyFor,
)
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slice_coupling import SliceCoupling
from ddip_ray.solvers.sampling.dds import DDS
from ddip_ray.solvers.sampling.mbir_published import ADMM
from ddip_ray.solvers.sampling.predictor_corrector import build_predictor_corrector
from ddip_ray.solvers.sampling.sampler import SamplingMethod, build_sampler

_STEP = 1 / 4  # 1/‖D_z‖²
_DUAL = "dual"  # u, (z, y, x), among what is carried


class DiffusionMBIR:
    """argmin γ/2 ‖A x − y‖² + ½ ‖x − x0_hat‖² + θ ‖D_z x‖₁, by gradient steps on its dual |u| ≤ θ.

    A sweep is DDS's data consistency from x0_hat − D_zᵀu, which is exact in x, and then a step of u along
    D_z x. Normally each timestep makes one sweep and hands u to the next. With ``cold`` each timestep
    starts from u = 0 and makes as many sweeps as it takes, with Nesterov's momentum in the form that keeps
    every point within |u| ≤ θ (Auslender and Teboulle 2006, doi:10.1137/S1052623403427823). The 2D prior
    knows nothing of z; only D_z couples slices, by one at each end of a slab.

    The problem is that of Chung et al. (Solving 3D Inverse Problems using Pre-trained 2D Diffusion Models,
    CVPR 2023, 2211.10655). The paper has no second term and the weight on the first (`ADMM`). Clean data,
    γ = ∞, then leave what they do not show to the total variation, and only early stopping keeps the
    denoised image.
    """

    couples_slices = True

    def __init__(
        self, settings: MBIRSettings, dds: DDS, communicator: Communicator, problem: SlabProblem
    ) -> None:
        """DiffusionMBIR for one problem.

        Args:
            settings: total variation.
            dds: data consistency of a sweep.
            communicator: the workers of the other slabs.
            problem: measurements, in the prior's image range.
        """
        self.settings, self.dds = settings, dds
        self.coupling = SliceCoupling.of(problem, communicator)

    def apply(self, x0_hat: Tensor, t: int, t_next: int, carried: Carried) -> tuple[Tensor, Carried]:
        """Sweeps from the carried dual; implements `DataConsistency`."""
        D_z, theta = self.coupling, self.weight(t)
        if self.settings.cold:
            carried = {}
        dual, d = carried.get(_DUAL, torch.zeros_like(x0_hat)), carried.get(LAST_CORRECTION)
        x, fast = x0_hat, dual
        for k in range(self.settings.sweeps):
            share = 2 / (k + 2)
            u = (1 - share) * dual + share * fast
            start = x0_hat - D_z.difference_adjoint(u)
            d = self.dds.correction(start, t, t_next, d)
            x = start + d
            difference = D_z.difference(x)
            fast = project_to_ball(fast + _STEP / share * difference, theta)
            dual = (1 - share) * dual + share * fast
            # The first u may be that of a timestep with a larger θ.
            if 0 < k < self.settings.sweeps - 1 and self.converged(difference, u, theta):
                break
        assert d is not None  # there is at least one sweep
        return x, {_DUAL: dual, LAST_CORRECTION: d}

    def ddim_step(
        self, x_t: Tensor, x0: Tensor, eps_hat: Tensor, noise: Tensor, *, t: int, t_next: int
    ) -> Tensor:
        """The step of DDS; implements `DataConsistency`."""
        return self.dds.ddim_step(x_t, x0, eps_hat, noise, t=t, t_next=t_next)

    def converged(self, difference: Tensor, u: Tensor, theta: float) -> bool:
        """Whether x is within tol · θ of the minimum, root mean square, by what the duality gap allows.

        ‖x(u) − x*‖² ≤ θ ‖D_z x‖₁ − ⟨u, D_z x⟩ for every |u| ≤ θ and the x that is exact for it. What CG still
        lacks for that, having gone on from sweep to sweep, is not in it.
        """
        ones = torch.ones_like(difference.real)
        length, along = slice_dot(modulus(difference), ones), slice_dot_real(u, difference)
        num_voxels = self.coupling.num_slices * difference[0].numel()
        gap = self.coupling.total(theta * length - along)
        return bool(gap <= num_voxels * (self.settings.tol * theta) ** 2)

    def weight(self, t: int) -> float:
        """θ: as the denoised image errs less, less is taken from what its neighbours say."""
        alpha_bar = self.dds.schedule.at(t)
        return self.settings.weight * math.sqrt((1 - alpha_bar) / alpha_bar)


def data_consistency_for(config: RunConfig, prior: Prior) -> DataConsistencyFor:
    """The data consistency of DiffusionMBIR, ours or the published one, for any problem in image range."""
    low, high = prior.image_range

    def for_problem(problem: SlabProblem, communicator: Communicator) -> DataConsistency:
        dds = DDS(config.sampler, prior.schedule, problem)
        if config.mbir.admm is None:
            return DiffusionMBIR(config.mbir, dds, communicator, problem)
        return ADMM(config.mbir, config.mbir.admm, dds, communicator, problem, image_scale=high - low)

    return for_problem


def build(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: Prior) -> Method:
    """DiffusionMBIR on the trajectory that ``config.mbir.trajectory`` names.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: denoiser of slices.
    """
    own = data_consistency_for(config, prior)
    if config.mbir.trajectory == "predictor_corrector":
        return build_predictor_corrector(config, problem, communicator, prior, own)
    return SamplingMethod(build_sampler(config, problem, communicator, prior, own))
