"""SCD: adaptation by the measurements that made the estimate (Barbano et al., 2308.14409)."""

from __future__ import annotations

from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import SCDSettings
from ddip_ray.errors import InputError
from ddip_ray.solvers.adapting.measurement_loss import Measured
from ddip_ray.solvers.adapting.per_slice import PerSlice
from ddip_ray.solvers.adapting.reptile import Reptile
from ddip_ray.solvers.adapting.trainer import Learner
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.sampling.sampler import RuleFor, Sampler


class SCD:
    """Before each step, a few optimiser steps on ‖A x0(Δθ) − y‖², through data consistency; then the step.

    The published adaptation of DDIP and D3IP, too: with one adapter for the volume it is D3IP as published,
    with one for every slice (`PerSlice`) it is SCD, which D3IP's authors call DDIP.
    """

    def __init__(
        self,
        sampler: Sampler,
        learner: Learner | Reptile | PerSlice,
        settings: SCDSettings,
        judging_rule: RuleFor,
    ) -> None:
        self.sampler, self.learner = sampler, learner
        self.judge = Measured(sampler, settings, judging_rule)
        if sampler.rule.couples_slices and sampler.problem.typical is not None:
            raise InputError(
                "adaptation.loss: measurements judges neighbours only where all slices are measured alike",
                "Use loss: rescan, the default.",
            )
        self.num_steps, self.nfe, self.prior_digest = sampler.num_steps, sampler.nfe, sampler.prior.digest
        self.adapt_nfe = learner.num_judged

    def step(self, i: int) -> StepReport:
        loss = self.learner.adapt(i, self.judge) if i in self.learner.adapting_steps else None
        return StepReport(self.sampler.step(i, self.learner.network_for(i, self.judge)).residual, loss)

    def keep(self, state: State) -> None:
        self.sampler.keep(state.within("sampler"))
        self.learner.keep(state.within("learner"))

    def result(self) -> Tensor:
        return self.sampler.result()

    @property
    def adapter(self) -> Adapter | None:
        return self.learner.adapter
