"""How far to trust measured data, decided by measurements that nothing has seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import NoiseSettings
from ddip_ray.solvers.core.method import Method, StepReport
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.sampling.sampler import Sampler
from ddip_ray.solvers.validating.held_out import held_out, least


class NoiseSearch:
    """Finds the noise, then reconstructs by the method for it.

    What can be estimated in the measurements themselves is the noise that neighbouring pixels do not share.
    Errors of motion, of the detector or of the model are larger where they are larger, and data that are
    trusted too much put them into the image. So a few slices are reconstructed from most of their
    measurements, at multiples of the estimate, and the rest decides.
    """

    def __init__(
        self, sampler: Sampler, settings: NoiseSettings, method_for: Callable[[float], Method]
    ) -> None:
        problem, self.communicator, self.method_for = sampler.problem, sampler.communicator, method_for
        spacing = max(1, problem.num_slices // settings.num_slices)
        self.held_out = held_out(problem, spacing, settings.held_out_share, sampler.seed)
        seen = self.held_out.seen
        self.trials = {
            factor: sampler.on(replace(seen, noise_std=factor * seen.noise_std))
            for factor in sorted(settings.factors)
        }
        self.misfits: dict[float, float] = {}
        self.factor: float | None = None  # once it is found
        self.num_trial_steps, self.num_search_steps = sampler.num_steps, len(self.trials) * sampler.num_steps
        self.method = method_for(1.0)  # whose steps and calls do not hang on the noise
        self.num_steps = self.num_search_steps + self.method.num_steps
        self.search_nfe = seen.num_slices * self.num_search_steps
        self.prior_digest = self.method.prior_digest

    def step(self, i: int) -> StepReport:
        if i >= self.num_search_steps:
            return self.method.step(i - self.num_search_steps)
        factor = list(self.trials)[i // self.num_trial_steps]
        trial, k = self.trials[factor], i % self.num_trial_steps
        trial.advance(k)
        self.misfits[factor] = self.held_out.misfit(trial.x0, self.communicator)
        is_last = i + 1 == self.num_search_steps
        return StepReport(self.misfits[factor], note=self.decide() if is_last else None)

    def decide(self) -> str:
        """The method for the noise that meets the held-out measurements best, and why."""
        self.factor = 2 ** least({math.log2(factor): misfit for factor, misfit in self.misfits.items()})
        self.go_on()
        found = ", ".join(f"{misfit:.5f} at {factor:g}" for factor, misfit in self.misfits.items())
        return f"noise {self.factor:.3g} times the store's estimate; misfit of held-out measurements {found}"

    def keep(self, state: State) -> None:
        self.misfits = dict(state.value("misfits", list(self.misfits.items())))
        self.factor = state.value("factor", self.factor)
        if self.factor is None:
            for k, trial in enumerate(self.trials.values()):
                trial.keep(state.within(f"trial-{k}"))
            return
        if self.trials:
            self.go_on()
        self.method.keep(state.within("method"))

    def go_on(self) -> None:
        """By the method for the noise that was found."""
        assert self.factor is not None
        self.trials.clear()
        del self.method, self.held_out  # before the successor needs the memory
        self.method = self.method_for(self.factor)

    def result(self) -> Tensor:
        return self.method.result()

    @property
    def nfe(self) -> int:
        return self.method.nfe

    @property
    def adapt_nfe(self) -> int:
        return self.method.adapt_nfe + self.search_nfe

    @property
    def adapter(self) -> Adapter | None:
        return self.method.adapter
