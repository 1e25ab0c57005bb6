"""How far to trust measured data, decided by measurements that a reconstruction has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import NoiseSettings
from ddip_ray.solvers.core.method import Method, StepReport
from ddip_ray.solvers.core.network_calls import NetworkCalls, count_calls
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.sampling.sampler import Sampler
from ddip_ray.solvers.validating.held_out import hold_out, parabola_minimum


class NoiseSearch:
    """Chooses the noise level, then reconstructs by the method for it.

    The store's estimate of the noise is made of errors that neighbouring pixels do not share. Errors from
    motion, the detector or the model are shared by neighbouring pixels, so this estimate misses them;
    trusting the data too much would draw them into the image. So a few slices are reconstructed from most of
    their measurements, at multiples of the estimate, and the held-out measurements decide.
    """

    def __init__(
        self, sampler: Sampler, settings: NoiseSettings, build_at_noise_level: Callable[[float], Method]
    ) -> None:
        """The search at its start.

        Args:
            sampler: sampler of the trials, for the whole problem.
            settings: what is held out and tried.
            build_at_noise_level: makes the method for a multiple of the estimated noise.
        """
        problem = sampler.problem
        self.problem, self.communicator = problem, sampler.communicator
        self.build_at_noise_level = build_at_noise_level
        spacing = max(1, problem.num_slices // settings.num_slices)
        self.held_out = hold_out(problem, spacing, settings.held_out_share, sampler.seed)
        seen = self.held_out.seen
        self.trials = {
            factor: sampler.for_problem(replace(seen, noise_std=factor * seen.noise_std))
            for factor in sorted(settings.factors)
        }
        self.states = {factor: trial.initial_state() for factor, trial in self.trials.items()}
        self.calls = {factor: trial.denoiser.calls for factor, trial in self.trials.items()}
        self.misfits: dict[float, float] = {}
        self.factor: float | None = None  # once it is chosen
        self.num_trial_steps, self.num_search_steps = sampler.num_steps, len(self.trials) * sampler.num_steps
        self.method = build_at_noise_level(1.0)  # whose steps and calls do not depend on the noise
        self.num_steps = self.num_search_steps + self.method.num_steps
        self.planned = self.with_search(self.method.planned, seen.num_slices * self.num_search_steps)
        self.prior_digest = self.method.prior_digest

    def step(self, i: int) -> StepReport:
        """Take step ``i``: one of a trial, or of the method for the noise level that was chosen."""
        if i >= self.num_search_steps:
            return self.method.step(i - self.num_search_steps)
        factor, k = list(self.trials)[i // self.num_trial_steps], i % self.num_trial_steps
        state = self.states[factor] = self.trials[factor].step(self.states[factor], k)
        misfit = self.misfits[factor] = self.held_out.misfit(state.x0, self.communicator)
        is_last = i + 1 == self.num_search_steps
        return StepReport(misfit, note=self.decide() if is_last else None)

    def decide(self) -> str:
        """Go on at the noise level that meets the held-out measurements best; a note that says why."""
        misfits = {math.log2(factor): misfit for factor, misfit in self.misfits.items()}
        self.go_on(2 ** parabola_minimum(misfits))
        found = ", ".join(f"{misfit:.5f} at {factor:g}" for factor, misfit in self.misfits.items())
        return f"noise {self.factor:.3g} times the store's estimate; misfit of held-out measurements {found}"

    def go_on(self, factor: float) -> None:
        """Go on by the method for ``factor`` times the estimated noise."""
        self.factor = factor
        self.trials, self.states = {}, {}
        del self.method, self.held_out  # before the successor needs the memory
        self.method = self.build_at_noise_level(factor)

    def result(self) -> Tensor:
        """The slab in the acquisition's normalised units, (z, y, x)."""
        return self.method.result()

    @property
    def adapter(self) -> Adapter | None:
        """The adapter of the method that reconstructs."""
        return self.method.adapter

    def network_calls(self) -> NetworkCalls:
        """Network calls that were made so far, counted."""
        own, search = self.method.network_calls(), self.calls.values()
        searched = count_calls(self.problem, self.communicator, [], search)
        return self.planned if searched is None else self.with_search(own, searched.adaptation_calls)

    @staticmethod
    def with_search(calls: NetworkCalls, search_calls: int) -> NetworkCalls:
        """The calls of a method with those of the search before it."""
        return replace(calls, adaptation_calls=calls.adaptation_calls + search_calls)

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand trials or method to ``recorder``, or take them from there."""
        self.misfits = dict(recorder.value("misfits", list(self.misfits.items())))
        factor = recorder.value("factor", self.factor)
        for k, (tried, calls) in enumerate(self.calls.items()):
            trial = recorder.within(f"trial-{k}")
            calls.save_or_restore(trial, "steps")
            if factor is None:
                self.states[tried] = self.states[tried].save_or_restore(trial, calls.slab)
        if factor is None:
            return
        if self.factor is None:
            self.go_on(factor)
        self.method.save_or_restore(recorder.within("method"))
