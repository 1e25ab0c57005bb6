"""Predictor-corrector sampling of the VE-SDE, as in Score-MRI and DiffusionMBIR."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.config.settings import PredictorCorrectorSettings
from ddip_ray.numerics.inner_product import slice_norm, slice_scale
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.core.steps import denoise_slab, relative_residual
from ddip_ray.solvers.sampling.sampler import Denoised, RuleFor, keep_rule

_PREDICT, _CORRECT = 0, 1  # key their noises apart


class PredictorCorrector:
    """A reverse-diffusion predictor, a Langevin corrector, and data consistency after each of them.

    Song et al. (ICLR 2021, 2011.13456, algorithms 1 and 2); with data consistency Chung & Ye (2110.05243,
    algorithm 2) and Chung et al. (2211.10655). The state is x = x0 + σ z, read by the VP prior as
    √ᾱ x with σ² = (1−ᾱ)/ᾱ. The data act on the noisy state, as published.
    """

    adapter = None

    def __init__(
        self,
        problem: SlabProblem,
        communicator: Communicator,
        prior: DiffusionPrior,
        settings: PredictorCorrectorSettings,
        seed: int,
        *,
        rule_for: RuleFor,
    ) -> None:
        self.low, self.high = prior.image_range
        self.problem = problem.in_image_range(self.low, self.high)
        self.communicator, self.prior, self.settings, self.seed = communicator, prior, settings, seed
        self.timesteps = prior.schedule.timesteps(settings.num_steps)
        self.num_steps = len(self.timesteps)
        # The last step is not corrected.
        self.nfe = self.num_steps + (self.num_steps - 1) * settings.corrector_steps
        self.adapt_nfe = 0
        self.prior_digest = prior.digest
        self.rule = rule_for(self.problem, communicator)
        self.x = self.sigma(self.timesteps[0]) * self.noise(0, _PREDICT, 0)
        self.x0 = self.x

    def step(self, i: int) -> StepReport:
        t = self.timesteps[i]
        t_next = self.timesteps[i + 1] if i + 1 < self.num_steps else -1
        removed = self.sigma(t) ** 2 - self.sigma(t_next) ** 2
        with torch.no_grad():
            x0_hat, score = self.denoise(t)
            x = self.x + removed * score
            if t_next >= 0:
                x = x + math.sqrt(removed) * self.noise(i + 1, _PREDICT, 0)
            self.x = self.consistent(x, x0_hat, t, t_next)
            for k in range(self.settings.corrector_steps if t_next >= 0 else 0):
                x0_hat, score = self.denoise(t_next)
                z = self.noise(i + 1, _CORRECT, k)
                step = 2 * (self.settings.snr * slice_norm(z) / slice_norm(score)) ** 2
                x = self.x + slice_scale(step, score) + slice_scale((2 * step).sqrt(), z)
                self.x = self.consistent(x, x0_hat, t_next, t_next)
            self.x0 = self.x if t_next < 0 else x0_hat
        return StepReport(relative_residual(self.problem, self.x0, self.communicator))

    def result(self) -> Tensor:
        return (self.x0 - self.low) / (self.high - self.low)

    def keep(self, state: State) -> None:
        self.x = state.slices("x", self.x, self.problem.slab)
        self.x0 = state.slices("x0", self.x0, self.problem.slab)
        keep_rule(self.rule, state, self.problem.slab)

    def denoise(self, t: int) -> tuple[Tensor, Tensor]:
        """x0_hat and the score −ε/σ of the state, at the noise level of timestep ``t``."""
        x_t = math.sqrt(self.prior.schedule.at(t)) * self.x
        x0_hat, eps_hat = denoise_slab(self.prior, x_t, t)
        return x0_hat, -eps_hat / self.sigma(t)

    def consistent(self, x: Tensor, x0_hat: Tensor, t: int, t_next: int) -> Tensor:
        return self.rule.consistent(Denoised(t, t_next, x, x, (x - x0_hat) / self.sigma(t)))

    def sigma(self, t: int) -> float:
        alpha_bar = self.prior.schedule.at(t)
        return math.sqrt((1 - alpha_bar) / alpha_bar)

    def noise(self, step: int, part: int, k: int) -> Tensor:
        draw = step * (1 + self.settings.corrector_steps) + part * (k + 1)
        return self.problem.unit_noise(self.seed, draw)
