"""DPS, diffusion posterior sampling (Chung et al., ICLR 2023, 2209.14687, algorithm 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.config.settings import DPSSettings, RunConfig
from ddip_ray.numerics.inner_product import slice_dot_real
from ddip_ray.numerics.threads import one_thread
from ddip_ray.operators.base import LinearOperator
from ddip_ray.prior.denoiser import Prior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import Method, StepReport
from ddip_ray.solvers.core.network_calls import CountedDenoiser, NetworkCalls, count_calls
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.core.steps import CLEAN, relative_residual, spaced_timesteps


class DPS:
    """Ancestral sampling, each step pulled down the gradient of ‖A x0_hat(x_t) − y‖/‖A‖ in x_t.

    Algorithm 1 of Chung, Kim, McCann, Klasky and Ye (Diffusion Posterior Sampling for General Noisy Inverse
    Problems, ICLR 2023, 2209.14687). The norm is each slice's own, so that slices stay independent, and A is
    normalised, so that ``scale`` (the paper's ζ′) means the same for every operator.
    """

    adapter = None

    def __init__(
        self,
        problem: SlabProblem,
        communicator: Communicator,
        prior: Prior,
        settings: DPSSettings,
        seed: int,
    ) -> None:
        """DPS for one slab, at its start.

        Args:
            problem: measurements of the slab, in the prior's image range.
            communicator: the workers of the other slabs.
            prior: denoiser of slices, differentiable in them.
            settings: trajectory and step size.
            seed: seed of all noise.
        """
        self.low, self.high = prior.image_range
        self.problem, self.communicator, self.prior = problem, communicator, prior
        self.settings, self.seed = settings, seed
        self.timesteps = spaced_timesteps(prior, "dps", settings.num_steps)
        self.num_steps, self.prior_digest = len(self.timesteps), prior.digest
        self.planned = NetworkCalls(calls_per_slice=self.num_steps)
        self.denoiser = CountedDenoiser(prior, problem.slab)
        self.operator_norm = problem.operator_norm()
        self.x_t = self.noise(step=0)

    def step(self, i: int) -> StepReport:
        """Take ancestral step ``i``."""
        t = self.timesteps[i]
        t_next = self.timesteps[i + 1] if i + 1 < self.num_steps else CLEAN
        x0_hat, gradient = self.denoise_and_differentiate(self.x_t, t)
        mean, std = ancestral(self.prior.schedule.at(t), self.prior.schedule.at(t_next), self.x_t, x0_hat)
        self.x_t = mean - self.settings.scale * gradient
        if std > 0:
            self.x_t = self.x_t + std * self.noise(step=i + 1)
        return StepReport(relative_residual(self.problem, x0_hat, self.communicator))

    def denoise_and_differentiate(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """x0_hat and the gradient of the misfit in ``x_t``, both (z, y, x)."""

        def of_rows(rows: list[int]) -> tuple[Tensor, Tensor]:
            x, y = x_t[rows].requires_grad_(), self.problem.y[rows]
            A = self.problem.operator.of_slices(rows)
            with one_thread():
                estimate, _ = self.prior.denoise(x, t)
                (gradient,) = torch.autograd.grad(self.misfit(A, estimate, y).sum(), x)
            return estimate.detach(), gradient

        return self.denoiser.map_slices(x_t, of_rows)

    def misfit(self, A: LinearOperator, x: Tensor, y: Tensor) -> Tensor:
        """‖A x − y‖/‖A‖ of each slice, (z,); its gradient is zero, not NaN, where it is zero."""
        difference = A.forward(x) - y
        square = slice_dot_real(difference, difference)
        return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt() / self.operator_norm

    def result(self) -> Tensor:
        """The slab in the acquisition's normalised units, (z, y, x)."""
        return (self.x_t - self.low) / (self.high - self.low)

    def network_calls(self) -> NetworkCalls:
        """Network calls that were made so far, counted."""
        return count_calls(self.problem, self.communicator, [self.denoiser.calls]) or self.planned

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the state to ``recorder``, or take it from there."""
        self.x_t = recorder.slices("x_t", self.x_t, self.problem.slab)
        self.denoiser.calls.save_or_restore(recorder, "steps")

    def noise(self, step: int) -> Tensor:
        """Unit normal noise of a step, (z, y, x)."""
        return self.problem.unit_noise(self.seed, step)


def ancestral(alpha_bar: float, alpha_bar_next: float, x_t: Tensor, x0: Tensor) -> tuple[Tensor, float]:
    """Mean and standard deviation of x_{t−1} given x_t and x0 (Ho et al., DDPM, 2006.11239, eq. 7).

    Args:
        alpha_bar: ᾱ at t.
        alpha_bar_next: ᾱ at t − 1.
        x_t: noisy slices, (z, y, x).
        x0: clean slices, (z, y, x).

    Returns:
        The mean, (z, y, x), and the standard deviation of every voxel.
    """
    beta = 1 - alpha_bar / alpha_bar_next
    from_x0 = math.sqrt(alpha_bar_next) * beta / (1 - alpha_bar)
    from_x_t = math.sqrt(alpha_bar / alpha_bar_next) * (1 - alpha_bar_next) / (1 - alpha_bar)
    return from_x0 * x0 + from_x_t * x_t, math.sqrt(beta * (1 - alpha_bar_next) / (1 - alpha_bar))


def build(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: Prior) -> Method:
    """DPS.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: denoiser of slices, differentiable in them.
    """
    own = problem.in_image_range(*prior.image_range)
    return DPS(own, communicator, prior, config.dps, config.seed)
