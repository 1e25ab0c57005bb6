"""DiffusionMBIR: total variation along z in the data consistency (Chung et al., CVPR 2023, 2211.10655)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ddip_ray.config.settings import MBIRSettings
from ddip_ray.numerics.inner_product import modulus, slice_dot, slice_dot_real
from ddip_ray.numerics.proximal import project_to_ball
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slice_coupling import SliceCoupling
from ddip_ray.solvers.sampling.dds import DDS
from ddip_ray.solvers.sampling.sampler import Denoised

_STEP = 1 / 4  # 1/‖D_z‖²


class DiffusionMBIR:
    """argmin γ/2 ‖A x − y‖² + ½ ‖x − x0_hat‖² + θ ‖D_z x‖₁, by gradient steps on its dual |u| ≤ θ.

    A sweep is DDS's data consistency from x0_hat − D_zᵀu, which is exact in x, and then a step of u along
    D_z x. Fast: one sweep a timestep, with u kept from timestep to timestep. Slow (``cold``): each timestep
    starts anew and makes as many as it takes, with Nesterov's momentum in the form whose every point keeps
    to |u| ≤ θ (Auslender & Teboulle 2006, doi:10.1137/S1052623403427823). The 2D prior knows nothing of z;
    only D_z couples slices, by one at each end of a slab.

    The paper has no second term and the weight on the first (`ADMM`). Clean data, γ = ∞, then leave what
    they do not show to the total variation, and only early stopping keeps the denoised image.
    """

    couples_slices = True
    carried = ("added", "dual")

    def __init__(
        self, settings: MBIRSettings, dds: DDS, communicator: Communicator, problem: SlabProblem
    ) -> None:
        self.settings, self.dds = settings, dds
        self.coupling = SliceCoupling.of(problem, communicator)
        self.dual = problem.nothing()
        self.added: Tensor | None = None

    def consistent(self, denoised: Denoised) -> Tensor:
        D_z, theta = self.coupling, self.weight(denoised.t)
        if self.settings.cold:
            self.dual, self.added = torch.zeros_like(self.dual), None
        x, fast = denoised.x0_hat, self.dual
        for k in range(self.settings.sweeps):
            share = 2 / (k + 2)
            u = (1 - share) * self.dual + share * fast
            start = denoised.x0_hat - D_z.difference_adjoint(u)
            self.added = self.dds.correction(replace(denoised, x0_hat=start), self.added)
            x = start + self.added
            difference = D_z.difference(x)
            fast = project_to_ball(fast + _STEP / share * difference, theta)
            self.dual = (1 - share) * self.dual + share * fast
            # The first u may be that of a timestep with a larger θ.
            if 0 < k < self.settings.sweeps - 1 and self.converged(difference, u, theta):
                break
        return x

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

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        return self.dds.move_on(x0, denoised, noise)
