"""DDS: decomposed diffusion sampling (Chung, Lee & Ye, ICLR 2024, 2303.05754, algorithm 2)."""

from __future__ import annotations

import math

from torch import Tensor

from ddip_ray.config.settings import SamplerSettings
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.steps import correction, move_on
from ddip_ray.solvers.sampling.sampler import Denoised


class DDS:
    """A few CG iterations from the denoised image, then the network's own noise mixed with a new one."""

    couples_slices = False
    carried = ("added",)

    def __init__(self, settings: SamplerSettings, schedule: NoiseSchedule, problem: SlabProblem) -> None:
        self.settings, self.schedule, self.problem = settings, schedule, problem
        self.added: Tensor | None = None

    def consistent(self, denoised: Denoised) -> Tensor:
        self.added = self.correction(denoised, self.added)
        return denoised.x0_hat + self.added

    def correction(self, denoised: Denoised, last: Tensor | None) -> Tensor:
        """What the data add to the denoised image, if they added ``last`` to the one before."""
        A, y = self.problem.operator, self.problem.y
        num_iterations = self.settings.num_cg_iterations(denoised.t_next)
        guess = last if self.settings.cg_warm_start else None
        return correction(A, y, denoised.x0_hat, self.gamma(denoised.t), num_iterations, guess=guess)

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        return move_on(x0, denoised.eps_hat, noise, self.schedule.at(denoised.t_next), self.settings.eta)

    def gamma(self, t: int) -> float:
        """Weight of the data against the denoised image at timestep ``t``.

        Given, it is relative to ‖A‖². Otherwise it is the ratio of the two error variances, that of
        x0_hat taken as ``data_trust`` · min(1, (1−ᾱ)/ᾱ) and that of y; infinite without noise. The
        estimate's error is not white: it lies where the data are weak, so ``data_trust`` is above 1.
        """
        if self.settings.gamma == "infinite":
            return math.inf
        if self.settings.gamma is not None:
            return self.settings.gamma / self.problem.operator_norm() ** 2
        if self.problem.noise_std == 0:
            return math.inf
        alpha_bar = self.schedule.at(t)
        return self.settings.data_trust * min(1.0, (1 - alpha_bar) / alpha_bar) / self.problem.noise_std**2
