"""Reverse diffusion of a slab in three parts: denoise, make consistent with the data, move on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ddip_ray.config.settings import SamplerSettings
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.core.steps import (
    NUM_ORIENTATIONS,
    Network,
    Networks,
    denoise_slab,
    move_on_quietly,
    oriented,
    relative_residual,
)
from ddip_ray.solvers.sampling.initial_state import start


@dataclass(frozen=True)
class Denoised:
    """A slab after part 1, at timestep ``t``: x_t = √ᾱ x0_hat + √(1−ᾱ) eps_hat, each (z, y, x)."""

    t: int
    t_next: int  # -1: clean
    x_t: Tensor
    x0_hat: Tensor
    eps_hat: Tensor

    @classmethod
    def alone(cls, t: int, x0_hat: Tensor) -> Denoised:
        """An estimate to be made consistent with the data, from which nothing moves on."""
        return cls(t, t, x0_hat, x0_hat, torch.zeros_like(x0_hat))


class Rule(Protocol):
    """Parts 2 and 3 of a step: what tells one method from another. One for each problem."""

    couples_slices: bool  # whether neighbours matter to a slice
    added: Tensor | None  # by the data to the last estimate, for CG to start from; None: from zero

    @property
    def carried(self) -> tuple[str, ...]:
        """Attributes that the next step needs, each (z, y, x), or None at the start."""
        ...

    def consistent(self, denoised: Denoised) -> Tensor:
        """x0: the slab's denoised image made consistent with its measurements, (z, y, x)."""
        ...

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        """x_t for ``t_next``, from ``x0`` and unit normal ``noise``, (z, y, x)."""
        ...


def keep_rule(rule: Rule, state: State, slab: Slab) -> None:
    for name in rule.carried:
        setattr(rule, name, state.slices(name, getattr(rule, name), slab))


RuleFor = Callable[[SlabProblem, Communicator], Rule]


class Sampler:
    """The trajectory that DDS, DDNM, DiffPIR and DiffusionMBIR share; one step per call of `step`."""

    adapter = None

    def __init__(
        self,
        problem: SlabProblem,
        communicator: Communicator,
        prior: DiffusionPrior,
        settings: SamplerSettings,
        seed: int,
        *,
        rule_for: RuleFor,
    ) -> None:
        self.low, self.high = prior.image_range
        self.problem = problem.in_image_range(self.low, self.high)
        self.communicator, self.prior, self.settings, self.seed = communicator, prior, settings, seed
        self.timesteps = prior.schedule.timesteps(settings.num_steps, settings.step_power, settings.start_t)
        self.num_steps = len(self.timesteps)
        self.nfe, self.adapt_nfe, self.prior_digest = self.num_steps, 0, prior.digest
        self.rule_for, self.rule = rule_for, rule_for(self.problem, communicator)
        self.is_bounded = settings.nonnegative and not self.problem.y.is_complex()
        self.x_t = self.begin()
        self.x0 = torch.zeros_like(self.x_t)
        self.multiplier: Tensor | None = None  # of x ≥ 0, (z, y, x); None: zero

    def step(self, i: int, network: Networks | None = None) -> StepReport:
        """Reverse step ``i`` of ``num_steps``, with an adapted ``network`` if given or one for each slice."""
        self.advance(i, network)
        return StepReport(relative_residual(self.problem, self.x0, self.communicator))

    def advance(self, i: int, network: Networks | None = None) -> None:
        """`step` without the report, which costs a projection and a word with the other workers."""
        if len(self.x_t) == 0:
            return
        t = self.timesteps[i]
        x0_hat, eps_hat = self.denoise(i, network or self.prior.network_forward)
        t_next = self.timesteps[i + 1] if i + 1 < self.num_steps else -1
        denoised = Denoised(t, t_next, self.x_t, x0_hat, eps_hat)
        with torch.no_grad():
            self.x0 = self.consistent(denoised)
            if t_next <= self.settings.noise_free_below_t:
                self.x_t = move_on_quietly(self.x0, self.prior.schedule.at(t_next))
            else:
                self.x_t = self.rule.move_on(self.x0, denoised, self.noise(step=i + 1))

    def denoise(self, i: int, network: Networks) -> tuple[Tensor, Tensor]:
        t = self.timesteps[i]
        if callable(network):
            x0_hat, eps_hat = denoise_slab(self.prior, self.x_t, t, self.oriented(network, i))
            return self.allowed(x0_hat), eps_hat
        each = [
            denoise_slab(self.prior, x_t[None], t, self.oriented(own, i), micro_batch=1)
            for x_t, own in zip(self.x_t, network, strict=True)
        ]
        estimates, noises = zip(*each, strict=True)
        return self.allowed(torch.cat(estimates)), torch.cat(noises)

    def consistent(self, denoised: Denoised) -> Tensor:
        """Part 2, of clean data at the quiet end subject to x ≥ 0.

        By gradient steps on the dual, one a timestep: with the constraint's multiplier v ≥ 0 the solution is
        the one without it from x0_hat + v, and v falls where that is positive. v is kept from timestep to
        timestep, where no noise comes in between. A rule that couples slices takes whole steps on a dual
        of its own; two together are at the limit of convergence, so half ones go with it.
        """
        if denoised.t_next > self.settings.noise_free_below_t or not self.is_constrained:
            return self.rule.consistent(denoised)
        v = torch.zeros_like(self.x_t) if self.multiplier is None else self.multiplier
        x0 = self.rule.consistent(replace(denoised, x0_hat=denoised.x0_hat + v))
        step = 0.5 if self.rule.couples_slices else 1.0
        self.multiplier = (v - step * (x0 - self.low)).clamp_min(0)
        return x0

    @property
    def is_constrained(self) -> bool:
        # Measured data have errors besides their noise, which may be met below zero and nowhere else.
        return self.is_bounded and self.problem.noise_std == 0

    def estimate(self, i: int, rows: list[int], network: Network) -> Tensor:
        """What `Rule.consistent` gets for some slices of the slab at step ``i``: (len(rows), y, x).

        With a graph to ``network``.
        """
        x0_hat, _ = self.prior.denoise(self.x_t[rows], self.timesteps[i], network)
        x0_hat = self.allowed(x0_hat)
        return x0_hat if self.multiplier is None else x0_hat + self.multiplier[rows]

    def allowed(self, x: Tensor) -> Tensor:
        """``x`` cut off at the lower end of the image range, if nothing can lie below."""
        return x.clamp_min(self.low) if self.is_bounded else x

    def oriented(self, network: Network, k: int) -> Network:
        return oriented(network, k % NUM_ORIENTATIONS) if self.settings.self_ensemble else network

    def result(self) -> Tensor:
        """The reconstruction of the slab in the acquisition's normalised units, (z, y, x) float32."""
        return (self.allowed(self.x0) - self.low) / (self.high - self.low)

    def keep(self, state: State) -> None:
        self.x_t = state.slices("x_t", self.x_t, self.problem.slab)
        self.x0 = state.slices("x0", self.x0, self.problem.slab)
        self.multiplier = state.slices("multiplier", self.multiplier, self.problem.slab)
        keep_rule(self.rule, state, self.problem.slab)

    def on(self, problem: SlabProblem, rule_for: RuleFor | None = None) -> Sampler:
        """The same sampler, by another rule if given, at its start on a ``problem`` in the prior's range."""
        other = copy.copy(self)
        other.rule_for = rule_for or self.rule_for
        other.problem, other.rule = problem, other.rule_for(problem, self.communicator)
        other.x_t = other.begin()
        other.x0, other.multiplier = torch.zeros_like(other.x_t), None
        return other

    def fork(self) -> Sampler:
        """The same sampler where it now is; the two go on without each other."""
        other = copy.copy(self)
        other.rule = copy.copy(self.rule)
        return other

    def begin(self) -> Tensor:
        alpha_bar = self.prior.schedule.at(self.timesteps[0])
        return start(self.problem, self.settings, self.seed, alpha_bar)

    def noise(self, step: int) -> Tensor:
        return self.problem.unit_noise(self.seed, step, self.settings.anchor_distance)
