"""The reverse diffusion that DDS, DDNM, DiffPIR and DiffusionMBIR share, and that adapting methods step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig, SamplerSettings
from ddip_ray.prior.denoiser import Network, Prior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import Carried, DataConsistencyFor, save_or_restore_carried
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.network_calls import CountedDenoiser, NetworkCalls, Networks, count_calls
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.core.steps import (
    CLEAN,
    NUM_ORIENTATIONS,
    noise_free_step,
    relative_residual,
    reoriented,
    spaced_timesteps,
)
from ddip_ray.solvers.sampling.initial_state import initial_image
from ddip_ray.solvers.sampling.nonnegativity import MULTIPLIER, Nonnegativity


@dataclass(frozen=True)
class SamplerState:
    """Where a trajectory stands between two steps; every tensor is (z, y, x).

    Attributes:
        x_t: noisy slices.
        x0: image after the last data consistency; zeros before the first step.
        carried: warm starts and duals of the data consistency, by name.
    """

    x_t: Tensor
    x0: Tensor
    carried: Carried = field(default_factory=dict)

    def save_or_restore(self, recorder: Recorder, slab: Slab) -> SamplerState:
        """Record this state of ``slab`` and return it, or return the recorded one when restoring."""
        x_t, x0 = recorder.slices("x_t", self.x_t, slab), recorder.slices("x0", self.x0, slab)
        carried = save_or_restore_carried(self.carried, recorder, slab, other_names=("x_t", "x0"))
        return SamplerState(x_t, x0, carried)


class Sampler:
    """Diffusion sampling: denoise, make consistent with the measurements, move to the next timestep.

    Algorithm 2 of DDS (Chung, Lee and Ye, Decomposed Diffusion Sampler for Accelerating Large-Scale Inverse
    Problems, ICLR 2024, 2303.05754). A sampler holds what stays the same; `step` maps a state to the next.
    """

    def __init__(
        self,
        problem: SlabProblem,
        communicator: Communicator,
        prior: Prior,
        settings: SamplerSettings,
        seed: int,
        *,
        data_consistency_for: DataConsistencyFor,
    ) -> None:
        """A sampler for one slab.

        Args:
            problem: measurements of the slab, in the prior's image range (`SlabProblem.in_image_range`).
            communicator: the workers of the other slabs.
            prior: denoiser of slices.
            settings: number and spacing of steps, noise, start.
            seed: seed of all noise.
            data_consistency_for: makes the data consistency of ``problem``.
        """
        self.problem, self.communicator, self.prior = problem, communicator, prior
        self.settings, self.seed, self.data_consistency_for = settings, seed, data_consistency_for
        self.low, self.high = prior.image_range
        self.timesteps = spaced_timesteps(
            prior, "sampler", settings.num_steps, settings.step_power, settings.start_t
        )
        self.num_steps = len(self.timesteps)
        self.is_bounded = settings.nonnegative and not problem.y.is_complex()
        # With noise images are only clipped: the constraint lost 0.4 dB on measured data with an offset.
        self.is_constrained = self.is_bounded and problem.noise_std == 0
        self.data_consistency = data_consistency_for(problem, communicator)
        if self.is_constrained:
            below_t = settings.noise_free_below_t
            self.data_consistency = Nonnegativity(self.data_consistency, self.low, below_t)
        self.denoiser = CountedDenoiser(prior, problem.slab)  # counts the calls of `step`
        self.loss_denoiser = CountedDenoiser(prior, problem.slab)  # counts the calls of `estimate`

    def for_problem(
        self,
        problem: SlabProblem,
        *,
        settings: SamplerSettings | None = None,
        data_consistency_for: DataConsistencyFor | None = None,
    ) -> Sampler:
        """A sampler of another problem, with this prior and seed.

        Args:
            problem: another problem, already in the prior's image range.
            settings: trajectory; None keeps it.
            data_consistency_for: makes the data consistency; None keeps it.
        """
        return Sampler(
            problem,
            self.communicator,
            self.prior,
            settings or self.settings,
            self.seed,
            data_consistency_for=data_consistency_for or self.data_consistency_for,
        )

    def initial_state(self) -> SamplerState:
        """The state before the first step."""
        alpha_bar = self.prior.schedule.at(self.timesteps[0])
        x_t = initial_image(self.problem, self.settings, self.seed, alpha_bar)
        return SamplerState(x_t, torch.zeros_like(x_t))

    def step(self, state: SamplerState, i: int, network: Networks | None = None) -> SamplerState:
        """The state after reverse step ``i`` of ``num_steps``: one iteration of algorithm 2.

        Args:
            state: state before the step.
            i: index of the step.
            network: an adapted network, or one for each slice; None is the prior's own.
        """
        if len(state.x_t) == 0:  # a slab may hold none of the slices of a validation
            return state
        t = self.timesteps[i]
        t_next = self.timesteps[i + 1] if i + 1 < self.num_steps else CLEAN
        # 1. Denoise. 2. Make the estimate consistent with the measurements. 3. Move to the next timestep.
        x0_hat, eps_hat = self.denoise(state.x_t, i, network)
        with torch.no_grad():
            x0, carried = self.data_consistency.apply(x0_hat, t, t_next, state.carried)
            if t_next <= self.settings.noise_free_below_t:
                x_t = noise_free_step(x0, self.prior.schedule.at(t_next))
            else:
                noise = self.problem.unit_noise(self.seed, i + 1, self.settings.anchor_distance)
                x_t = self.data_consistency.ddim_step(state.x_t, x0, eps_hat, noise, t=t, t_next=t_next)
        return SamplerState(x_t, x0, carried)

    def denoise(self, x_t: Tensor, i: int, network: Networks | None = None) -> tuple[Tensor, Tensor]:
        """(x0_hat, eps_hat) of the slab at step ``i``, (z, y, x): Tweedie's formula, x0_hat clipped."""
        t, network = self.timesteps[i], network or self.prior.network_forward
        if callable(network):
            x0_hat, eps_hat = self.denoiser.denoise_slab(x_t, t, self.reoriented(network, i))
            return self.clip_to_range(x0_hat), eps_hat
        each = []
        for row, own in zip(range(len(x_t)), network, strict=True):  # may train each network
            with torch.no_grad():
                each.append(self.denoiser.denoise_rows(x_t, [row], t, self.reoriented(own, i)))
        estimates, noises = zip(*each, strict=True)
        return self.clip_to_range(torch.cat(estimates)), torch.cat(noises)

    def estimate(self, state: SamplerState, i: int, rows: list[int], network: Network) -> Tensor:
        """x0_hat of the slices ``rows`` at step ``i``, as it enters data consistency: (len(rows), y, x).

        Differentiable in the network's parameters.
        """
        x0_hat, _ = self.loss_denoiser.denoise_rows(state.x_t, rows, self.timesteps[i], network)
        x0_hat = self.clip_to_range(x0_hat)
        multiplier = state.carried.get(MULTIPLIER)
        return x0_hat if multiplier is None else x0_hat + multiplier[rows]

    def clip_to_range(self, x: Tensor) -> Tensor:
        """``x`` cut off at the lower end of the image range, if the image is non-negative."""
        return x.clamp_min(self.low) if self.is_bounded else x

    def reoriented(self, network: Network, k: int) -> Network:
        """``network`` in the orientation of step ``k``; as it is without self-ensemble."""
        return reoriented(network, k % NUM_ORIENTATIONS) if self.settings.self_ensemble else network

    def residual(self, state: SamplerState) -> float:
        """‖A x0 − y‖/‖y‖ over the whole volume; costs one projection and one sum over the workers."""
        return relative_residual(self.problem, state.x0, self.communicator)

    def result(self, state: SamplerState) -> Tensor:
        """The slab in the acquisition's normalised units, (z, y, x)."""
        return (self.clip_to_range(state.x0) - self.low) / (self.high - self.low)

    def save_or_restore_calls(self, recorder: Recorder) -> None:
        """Hand the counted network calls to ``recorder``, or take them from there."""
        self.denoiser.calls.save_or_restore(recorder, "steps")
        self.loss_denoiser.calls.save_or_restore(recorder, "losses")


class SamplingMethod:
    """A sampler with a fixed prior, as a `Method`."""

    adapter = None

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.state = sampler, sampler.initial_state()
        self.num_steps, self.prior_digest = sampler.num_steps, sampler.prior.digest
        self.planned = NetworkCalls(calls_per_slice=sampler.num_steps)

    def step(self, i: int) -> StepReport:
        """Take reverse step ``i``."""
        self.state = self.sampler.step(self.state, i)
        return StepReport(self.sampler.residual(self.state))

    def result(self) -> Tensor:
        """The slab in the acquisition's normalised units, (z, y, x)."""
        return self.sampler.result(self.state)

    def network_calls(self) -> NetworkCalls:
        """Network calls that were made so far, counted."""
        sampler = self.sampler
        return count_calls(sampler.problem, sampler.communicator, [sampler.denoiser.calls]) or self.planned

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the state to ``recorder``, or take it from there."""
        self.state = self.state.save_or_restore(recorder, self.sampler.problem.slab)
        self.sampler.save_or_restore_calls(recorder)


def build_sampler(
    config: RunConfig,
    problem: SlabProblem,
    communicator: Communicator,
    prior: Prior,
    data_consistency_for: DataConsistencyFor,
) -> Sampler:
    """The sampler of a configuration.

    Args:
        config: its ``sampler`` section is the trajectory.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: denoiser of slices.
        data_consistency_for: makes the data consistency of a problem.
    """
    own = problem.in_image_range(*prior.image_range)
    return Sampler(
        own,
        communicator,
        prior,
        config.sampler,
        config.seed,
        data_consistency_for=data_consistency_for,
    )
