"""DDS: decomposed diffusion sampling (Chung, Lee & Ye, ICLR 2024, 2303.05754, algorithm 2)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from ddip_ray.prior.network import DiffusionPrior
from ddip_ray.solvers.communicator import Communicator
from ddip_ray.solvers.method import StepReport
from ddip_ray.solvers.noise import slab_noise
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.settings import SamplerSettings
from ddip_ray.solvers.steps import (
    NUM_ORIENTATIONS,
    Network,
    data_consistency,
    denoise_slab,
    move_on,
    move_on_quietly,
    oriented,
    relative_residual,
)


class DDS:
    """Denoise, make consistent with the measurements, move on; one step per call of `step`."""

    def __init__(
        self,
        problem: SlabProblem,
        communicator: Communicator,
        prior: DiffusionPrior,
        settings: SamplerSettings,
        seed: int,
    ) -> None:
        self.low, self.high = prior.image_range
        self.problem = problem.in_image_range(self.low, self.high)
        self.communicator, self.prior, self.settings, self.seed = communicator, prior, settings, seed
        self.timesteps = prior.schedule.timesteps(settings.num_steps, settings.step_power)
        self.num_steps = len(self.timesteps)
        self.nfe, self.adapt_nfe = self.num_steps, 0
        self.operator_norm = self.problem.operator_norm()
        self.x_t = self.noise(step=0)
        self.x0 = torch.zeros_like(self.x_t)

    def step(self, i: int, network: Network | None = None) -> StepReport:
        """Reverse step ``i`` of ``num_steps``, with an adapted ``network`` if given."""
        self.advance(i, network)
        return StepReport(relative_residual(self.problem, self.x0, self.communicator))

    def advance(self, i: int, network: Network | None = None) -> None:
        """`step` without the report, which costs a projection and a word with the other workers."""
        t = self.timesteps[i]
        network = self.oriented(network or self.prior.network_forward, i)
        x0_hat, eps_hat = denoise_slab(self.prior, self.x_t, t, self.settings.micro_batch, network)
        with torch.no_grad():
            self.x0 = data_consistency(
                self.problem.operator, self.problem.y, x0_hat, self.gamma(t), self.settings.cg_iterations
            )
            self.x_t = self.next_x_t(i + 1, eps_hat)

    def oriented(self, network: Network, k: int) -> Network:
        return oriented(network, k % NUM_ORIENTATIONS) if self.settings.self_ensemble else network

    def next_x_t(self, i: int, eps_hat: Tensor) -> Tensor:
        """Where step ``i`` begins: noisy samples first, from ``quiet_t`` on the bare estimate."""
        t = self.timesteps[i] if i < self.num_steps else -1
        alpha_bar = self.prior.schedule.at(t)
        if t <= self.settings.quiet_t:
            return move_on_quietly(self.x0, alpha_bar)
        return move_on(self.x0, eps_hat, self.noise(step=i), alpha_bar, self.settings.eta)

    def result(self) -> Tensor:
        """The reconstruction of the slab in the acquisition's normalised units, (z, y, x) float32."""
        return (self.x0 - self.low) / (self.high - self.low)

    def on(self, problem: SlabProblem) -> DDS:
        """The same sampler at its start, on another ``problem`` for the slab (in the prior's range)."""
        other = copy.copy(self)
        other.problem = problem
        other.operator_norm = problem.operator_norm()
        other.x_t = other.noise(step=0)
        other.x0 = torch.zeros_like(other.x_t)
        return other

    def noise(self, step: int) -> Tensor:
        shape = self.problem.operator.image_shape
        noise = slab_noise(
            self.problem.slab, shape, self.seed, step, anchor_distance=self.settings.anchor_distance
        )
        return noise.to(self.problem.y.device)

    def gamma(self, t: int) -> float:
        """Weight of the data against the denoised image at timestep ``t``.

        Given, it is relative to ‖A‖². Otherwise it is the ratio of the two error variances, that of
        x0_hat taken as ``data_trust`` · min(1, (1−ᾱ)/ᾱ) and that of y; infinite without noise. The
        estimate's error is not white: it lies where the data are weak, so ``data_trust`` is above 1.
        """
        if self.settings.gamma is not None:
            return self.settings.gamma / self.operator_norm**2
        if self.problem.noise_std == 0:
            return math.inf
        alpha_bar = self.prior.schedule.at(t)
        return self.settings.data_trust * min(1.0, (1 - alpha_bar) / alpha_bar) / self.problem.noise_std**2
