"""DiffusionMBIR: total variation along z in the data consistency (Chung et al., CVPR 2023, 2211.10655)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ddip_ray.operators.proximal import project_to_ball
from ddip_ray.solvers.communicator import Communicator
from ddip_ray.solvers.coupling import SliceCoupling
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.sampler import Denoised
from ddip_ray.solvers.settings import MBIRSettings

_STEP = 1 / 4  # 1/‖D_z‖²


class DiffusionMBIR:
    """argmin γ/2 ‖A x − y‖² + ½ ‖x − x0_hat‖² + θ ‖D_z x‖₁, by gradient steps on its dual |u| ≤ θ.

    A sweep is DDS's data consistency from x0_hat − D_zᵀu, which is exact in x, and then a step of u along
    D_z x. Fast: one sweep a timestep, with u kept from timestep to timestep. Slow (``cold``): each timestep
    starts anew and makes many, which have Nesterov's momentum (Beck & Teboulle 2009,
    doi:10.1137/080716542); nothing stops them when they have converged. The 2D prior knows nothing of z;
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
        x, ahead = denoised.x0_hat, self.dual
        for k in range(self.settings.sweeps):
            start = denoised.x0_hat - D_z.difference_adjoint(ahead)
            self.added = self.dds.correction(replace(denoised, x0_hat=start), self.added)
            x, last = start + self.added, self.dual
            self.dual = project_to_ball(ahead + _STEP * D_z.difference(x), theta)
            ahead = self.dual + k / (k + 3) * (self.dual - last)
        return x

    def weight(self, t: int) -> float:
        """θ: as the denoised image errs less, less is taken from what its neighbours say."""
        alpha_bar = self.dds.schedule.at(t)
        return self.settings.weight * math.sqrt((1 - alpha_bar) / alpha_bar)

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        return self.dds.move_on(x0, denoised, noise)
