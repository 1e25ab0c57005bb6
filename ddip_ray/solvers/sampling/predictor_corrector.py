"""Predictor-corrector sampling of the VE-SDE, as in Score-MRI and DiffusionMBIR."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddip_ray.config.settings import PredictorCorrectorSettings, RunConfig
from ddip_ray.numerics.inner_product import slice_norm, slice_scale
from ddip_ray.prior.denoiser import Prior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import Carried, DataConsistencyFor, save_or_restore_carried
from ddip_ray.solvers.core.method import Method, StepReport
from ddip_ray.solvers.core.network_calls import CountedDenoiser, NetworkCalls, count_calls
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.core.steps import CLEAN, relative_residual, spaced_timesteps
from ddip_ray.solvers.sampling import dds

_PREDICT, _CORRECT = 0, 1  # key their noises apart


@dataclass(frozen=True)
class VEState:
    """Where a VE trajectory stands between two steps; every tensor is (z, y, x).

    Attributes:
        x: noisy slices x0 + σ z.
        x0: the last estimate of the clean slices.
        carried: warm starts and duals of the data consistency, by name.
    """

    x: Tensor
    x0: Tensor
    carried: Carried = field(default_factory=dict)


class PredictorCorrector:
    """A reverse-diffusion predictor, a Langevin corrector, and data consistency after each of them.

    Song et al. (Score-Based Generative Modeling through Stochastic Differential Equations, ICLR 2021,
    2011.13456, algorithms 1 and 2); with data consistency Chung and Ye (Score-based diffusion models for
    accelerated MRI, 2110.05243, algorithm 2) and Chung et al. (DiffusionMBIR, CVPR 2023, 2211.10655). The
    state is x = x0 + σ z, read by the VP prior as √ᾱ x with σ² = (1−ᾱ)/ᾱ. The data act on the noisy state, as
    published.
    """

    adapter = None

    def __init__(
        self,
        problem: SlabProblem,
        communicator: Communicator,
        prior: Prior,
        settings: PredictorCorrectorSettings,
        seed: int,
        *,
        data_consistency_for: DataConsistencyFor,
    ) -> None:
        """The sampler for one slab, at its start.

        Args:
            problem: measurements of the slab, in the prior's image range.
            communicator: the workers of the other slabs.
            prior: denoiser of slices.
            settings: trajectory.
            seed: seed of all noise.
            data_consistency_for: makes the data consistency of ``problem``.
        """
        self.low, self.high = prior.image_range
        self.problem, self.communicator, self.prior = problem, communicator, prior
        self.settings, self.seed = settings, seed
        self.timesteps = spaced_timesteps(prior, "predictor_corrector", settings.num_steps)
        self.num_steps, self.prior_digest = len(self.timesteps), prior.digest
        # The last step is not corrected.
        self.planned = NetworkCalls(self.num_steps + (self.num_steps - 1) * settings.corrector_steps)
        self.denoiser = CountedDenoiser(prior, problem.slab)
        self.data_consistency = data_consistency_for(problem, communicator)
        x = self.sigma(self.timesteps[0]) * self.noise(0, _PREDICT, 0)
        self.state = VEState(x, x)

    def step(self, i: int) -> StepReport:
        """Take predictor step ``i`` and its corrector steps."""
        with torch.no_grad():
            self.state = self.corrected(self.predicted(self.state, i), i)
        return StepReport(relative_residual(self.problem, self.state.x0, self.communicator))

    def predicted(self, state: VEState, i: int) -> VEState:
        """The state after the reverse-diffusion step from one noise level to the next."""
        t, t_next = self.timesteps[i], self.next_timestep(i)
        removed = self.sigma(t) ** 2 - self.sigma(t_next) ** 2
        x0_hat, score = self.denoise(state.x, t)
        x = state.x + removed * score
        if t_next != CLEAN:
            x = x + math.sqrt(removed) * self.noise(i + 1, _PREDICT, 0)
        x, carried = self.data_consistency.apply(x, t, t_next, state.carried)
        return VEState(x, x if t_next == CLEAN else x0_hat, carried)

    def corrected(self, state: VEState, i: int) -> VEState:
        """The state after Langevin steps at the noise level that the predictor reached."""
        t = self.next_timestep(i)
        for k in range(0 if t == CLEAN else self.settings.corrector_steps):
            x0_hat, score = self.denoise(state.x, t)
            z = self.noise(i + 1, _CORRECT, k)
            step = 2 * (self.settings.snr * slice_norm(z) / slice_norm(score)) ** 2
            x = state.x + slice_scale(step, score) + slice_scale((2 * step).sqrt(), z)
            x, carried = self.data_consistency.apply(x, t, t, state.carried)
            state = VEState(x, x0_hat, carried)
        return state

    def denoise(self, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """x0_hat and the score −ε/σ of the state, at the noise level of timestep ``t``."""
        x_t = math.sqrt(self.prior.schedule.at(t)) * x
        x0_hat, eps_hat = self.denoiser.denoise_slab(x_t, t)
        return x0_hat, -eps_hat / self.sigma(t)

    def result(self) -> Tensor:
        """The slab in the acquisition's normalised units, (z, y, x)."""
        return (self.state.x0 - self.low) / (self.high - self.low)

    def network_calls(self) -> NetworkCalls:
        """Network calls that were made so far, counted."""
        return count_calls(self.problem, self.communicator, [self.denoiser.calls]) or self.planned

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the state to ``recorder``, or take it from there."""
        slab, state = self.problem.slab, self.state
        x, x0 = recorder.slices("x", state.x, slab), recorder.slices("x0", state.x0, slab)
        carried = save_or_restore_carried(state.carried, recorder, slab, other_names=("x", "x0"))
        self.state = VEState(x, x0, carried)
        self.denoiser.calls.save_or_restore(recorder, "steps")

    def next_timestep(self, i: int) -> int:
        """The timestep that step ``i`` leads to."""
        return self.timesteps[i + 1] if i + 1 < self.num_steps else CLEAN

    def sigma(self, t: int) -> float:
        """σ of the VE-SDE at timestep ``t``."""
        alpha_bar = self.prior.schedule.at(t)
        return math.sqrt((1 - alpha_bar) / alpha_bar)

    def noise(self, step: int, part: int, k: int) -> Tensor:
        """Unit normal noise of the ``k``-th draw of a ``part`` of a step, (z, y, x)."""
        draw = step * (1 + self.settings.corrector_steps) + part * (k + 1)
        return self.problem.unit_noise(self.seed, draw)


def build_predictor_corrector(
    config: RunConfig,
    problem: SlabProblem,
    communicator: Communicator,
    prior: Prior,
    data_consistency_for: DataConsistencyFor,
) -> PredictorCorrector:
    """Predictor and corrector with any data consistency.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: denoiser of slices.
        data_consistency_for: makes the data consistency of a problem.
    """
    own, settings = problem.in_image_range(*prior.image_range), config.predictor_corrector
    return PredictorCorrector(
        own, communicator, prior, settings, config.seed, data_consistency_for=data_consistency_for
    )


def build(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: Prior) -> Method:
    """Score-based sampling with the data consistency of DDS.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: denoiser of slices.
    """
    own = dds.data_consistency_for(config, prior)
    return build_predictor_corrector(config, problem, communicator, prior, own)
