"""DiffPIR: plug-and-play image restoration on a diffusion trajectory (Zhu et al., 2305.08995)."""

from __future__ import annotations

import math

from torch import Tensor

from ddip_ray.config.settings import DiffPIRSettings, SamplerSettings
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.steps import correction, move_on
from ddip_ray.solvers.sampling.sampler import Denoised

_NOISE_FLOOR = 1e-3  # of ‖A‖: clean data get a finite weight too, as in the paper's code


class DiffPIR:
    """x0 = argmin ‖y − A x‖² + ρ_t ‖x − x0_hat‖² with ρ_t = λ σ²/σ_t², solved by CG (algorithm 1).

    The noise estimate is then made anew, from x_t and that x0: the second difference from DDS. The
    paper's ζ is η².
    """

    couples_slices = False
    carried = ("added",)

    def __init__(
        self, own: DiffPIRSettings, settings: SamplerSettings, schedule: NoiseSchedule, problem: SlabProblem
    ) -> None:
        self.lam, self.settings, self.schedule, self.problem = own.lam, settings, schedule, problem
        self.added: Tensor | None = None
        self.noise_std = max(problem.noise_std, _NOISE_FLOOR * problem.operator_norm())

    def consistent(self, denoised: Denoised) -> Tensor:
        alpha_bar = self.schedule.at(denoised.t)
        rho = self.lam * self.noise_std**2 * alpha_bar / (1 - alpha_bar)
        A, y = self.problem.operator, self.problem.y
        num_iterations = self.settings.num_cg_iterations(denoised.t_next)
        guess = self.added if self.settings.cg_warm_start else None
        self.added = correction(A, y, denoised.x0_hat, 1 / rho, num_iterations, guess=guess)
        return denoised.x0_hat + self.added

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        alpha_bar = self.schedule.at(denoised.t)
        eps_hat = (denoised.x_t - math.sqrt(alpha_bar) * x0) / math.sqrt(1 - alpha_bar)
        return move_on(x0, eps_hat, noise, self.schedule.at(denoised.t_next), self.settings.eta)
