"""DDNM: the denoising diffusion null-space model (Wang, Yu & Zhang, ICLR 2023, 2212.00490)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.config.settings import SamplerSettings
from ddip_ray.errors import InputError
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.random import normal
from ddip_ray.solvers.core.steps import move_on, pseudo_inverse
from ddip_ray.solvers.sampling.sampler import Denoised


class DDNM:
    """x0 = x0_hat + λ_t A†(y − A x0_hat): the range of Aᵀ from the data, its null space from the prior.

    A† is CG until it has converged or the sampler's number of iterations is spent. With noise
    (DDNM+, section 3.3) the data count less near the end, and the noise that A† brings into x0 is taken off
    the noise that is added; it is counted as white, as in the paper.
    """

    couples_slices = False
    carried = ("added",)

    def __init__(self, settings: SamplerSettings, schedule: NoiseSchedule, problem: SlabProblem) -> None:
        self.settings, self.schedule, self.problem = settings, schedule, problem
        self.added: Tensor | None = None
        self.noise_std = 0.0
        if problem.noise_std > 0:
            if settings.eta == 0:
                raise InputError(
                    "sampler.eta is 0, and of noisy measurements DDNM+ takes no more than the noise it adds: "
                    "it would take nothing",
                    "Give a larger sampler.eta, or use --method dds",
                )
            A, is_complex = problem.typical or problem.operator, problem.y.is_complex()
            sample = normal((1, *A.measurement_shape), 0, is_complex=is_complex).to(problem.y.device)
            brought = pseudo_inverse(A, sample, self.num_iterations(t_next=-1))
            parts = torch.view_as_real(brought) if is_complex else brought
            self.noise_std = problem.noise_std * float(parts.square().mean().sqrt())

    def consistent(self, denoised: Denoised) -> Tensor:
        misfit = self.problem.y - self.problem.operator.forward(denoised.x0_hat)
        self.added = self.inverse(misfit, denoised.t_next)
        return denoised.x0_hat + self.trust(denoised.t_next) * self.added

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        alpha_bar = self.schedule.at(denoised.t_next)
        brought = math.sqrt(alpha_bar) * self.trust(denoised.t_next) * self.noise_std
        fresh = math.sqrt(max(0.0, (1 - alpha_bar) * self.settings.eta**2 - brought**2))
        quiet = move_on(x0, denoised.eps_hat, torch.zeros_like(noise), alpha_bar, self.settings.eta)
        return quiet + fresh * noise

    def trust(self, t_next: int) -> float:
        """λ_t: 1 while more noise is added than the data bring with them."""
        alpha_bar = self.schedule.at(t_next)
        brought = math.sqrt(alpha_bar) * self.noise_std
        return 1.0 if brought == 0 else min(1.0, math.sqrt(1 - alpha_bar) * self.settings.eta / brought)

    def inverse(self, y: Tensor, t_next: int) -> Tensor:
        # With noise the few iterations are what keeps A† from bringing more of it than was found above.
        guess = self.added if self.settings.cg_warm_start and self.noise_std == 0 else None
        return pseudo_inverse(self.problem.operator, y, self.num_iterations(t_next), guess)

    def num_iterations(self, t_next: int) -> int:
        """With noise few at the quiet end, too: many raise it without end where A lets little through."""
        is_noisy = self.problem.noise_std > 0
        return self.settings.cg_iterations if is_noisy else self.settings.num_cg_iterations(t_next)
