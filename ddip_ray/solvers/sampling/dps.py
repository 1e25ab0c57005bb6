"""DPS: diffusion posterior sampling (Chung et al., ICLR 2023, 2209.14687, algorithm 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.config.settings import DPSSettings
from ddip_ray.numerics.inner_product import slice_dot_real
from ddip_ray.numerics.threads import one_thread
from ddip_ray.operators.base import LinearOperator
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.micro_batches import in_batches
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.core.steps import relative_residual


class DPS:
    """Ancestral sampling, each step pulled down the gradient of ‖A x0_hat(x_t) − y‖/‖A‖ in x_t.

    The norm is each slice's own, so that slices stay independent, and A is normalised, so that
    ``scale`` (the paper's ζ′) means the same for every operator.
    """

    adapter = None

    def __init__(
        self,
        problem: SlabProblem,
        communicator: Communicator,
        prior: DiffusionPrior,
        settings: DPSSettings,
        seed: int,
    ) -> None:
        self.low, self.high = prior.image_range
        self.problem = problem.in_image_range(self.low, self.high)
        self.communicator, self.prior, self.settings, self.seed = communicator, prior, settings, seed
        self.timesteps = prior.schedule.timesteps(settings.num_steps)
        self.num_steps = self.nfe = len(self.timesteps)
        self.adapt_nfe, self.prior_digest = 0, prior.digest
        self.operator_norm = self.problem.operator_norm()
        self.x_t = self.noise(step=0)

    def step(self, i: int) -> StepReport:
        t = self.timesteps[i]
        t_next = self.timesteps[i + 1] if i + 1 < self.num_steps else -1
        x0_hat, pull = self.denoise_and_pull(t)
        mean, std = ancestral(self.prior.schedule.at(t), self.prior.schedule.at(t_next), self.x_t, x0_hat)
        self.x_t = mean - self.settings.scale * pull
        if std > 0:
            self.x_t = self.x_t + std * self.noise(step=i + 1)
        return StepReport(relative_residual(self.problem, x0_hat, self.communicator))

    def denoise_and_pull(self, t: int) -> tuple[Tensor, Tensor]:
        """x0_hat and the gradient of the misfit in x_t, both (z, y, x)."""

        def of(slices: list[int]) -> tuple[Tensor, Tensor]:
            x, y = self.x_t[slices].requires_grad_(), self.problem.y[slices]
            A = self.problem.operator.of_slices(slices)
            with one_thread():
                estimate, _ = self.prior.denoise(x, t)
                (gradient,) = torch.autograd.grad(self.misfit(A, estimate, y).sum(), x)
            return estimate.detach(), gradient

        return in_batches(self.prior, self.x_t, of)

    def misfit(self, A: LinearOperator, x: Tensor, y: Tensor) -> Tensor:
        """‖A x − y‖/‖A‖ of each slice, (z,); its gradient is zero, not NaN, where it is zero."""
        difference = A.forward(x) - y
        square = slice_dot_real(difference, difference)
        return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt() / self.operator_norm

    def result(self) -> Tensor:
        return (self.x_t - self.low) / (self.high - self.low)

    def keep(self, state: State) -> None:
        self.x_t = state.slices("x_t", self.x_t, self.problem.slab)

    def noise(self, step: int) -> Tensor:
        return self.problem.unit_noise(self.seed, step)


def ancestral(alpha_bar: float, alpha_bar_next: float, x_t: Tensor, x0: Tensor) -> tuple[Tensor, float]:
    """Mean and standard deviation of x_{t−1} given x_t and x0 (DDPM, 2006.11239, eq. 7)."""
    beta = 1 - alpha_bar / alpha_bar_next
    from_x0 = math.sqrt(alpha_bar_next) * beta / (1 - alpha_bar)
    from_x_t = math.sqrt(alpha_bar / alpha_bar_next) * (1 - alpha_bar_next) / (1 - alpha_bar)
    return from_x0 * x0 + from_x_t * x_t, math.sqrt(beta * (1 - alpha_bar_next) / (1 - alpha_bar))
