"""D3IP: one low-rank adapter for the whole volume, adapted along the trajectory."""

from __future__ import annotations

import math

from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.solvers.adapting.per_slice import PerSlice
from ddip_ray.solvers.adapting.reptile import Reptile
from ddip_ray.solvers.adapting.rescan_loss import TwinPlan, Twins
from ddip_ray.solvers.adapting.trainer import Learner
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.sampling.sampler import Sampler
from ddip_ray.solvers.validating.adaptation_strength import Validation


class D3IP:
    """Reconstruct, scan the result again, and learn from how well that is reconstructed.

    The first pass is the plain sampler. Smaller copies of its result are scanned (`rescan`), and in the
    second pass these twins are reconstructed. Before each of their late steps the ``learner`` takes a few
    optimiser steps on the twins of slices drawn at random over the volume; the real reconstruction
    repeats its late steps with the same adapter. The published loss judges by the views that made the
    estimate, which an adapter can satisfy by not denoising at all (`SCD`).

    With a ``validation`` the real late steps wait until it has decided how strongly to adapt; learning ends
    when it gives up.
    With a sampler that couples neighbours this is D3IP (mbir), with `Reptile` as learner D3IP (meta), with
    `PerSlice` DDIP, which has no adapter for the volume.
    """

    def __init__(
        self,
        sampler: Sampler,
        learner: Learner | Reptile | PerSlice,
        plan: TwinPlan,
        validation: Validation | None = None,
    ) -> None:
        self.sampler, self.learner, self.plan, self.validation = sampler, learner, plan, validation
        # An adapter given at the start helps from the first step; the learner changes it later.
        self.first_network = learner.network() if learner.started else None
        self.prior_digest = sampler.prior.digest
        self.scanned: Tensor | None = None  # the first pass's result, once there is one
        self.twins: Twins | None = None  # made of it
        self.late: Sampler | None = None  # the sampler as it was before the first pass's late steps
        self.residual = math.nan

        num_late = sum(self.is_late(i) for i in range(sampler.num_steps))
        self.num_steps = 2 * sampler.num_steps + (num_late if validation else 0)
        self.nfe = sampler.nfe + num_late + plan.num_copies * sampler.nfe
        self.adapt_nfe = learner.num_judged * plan.num_drawn
        self.adapt_nfe_a_step = self.adapt_nfe // max(1, len(learner.adapting_steps))
        if validation is not None:
            self.adapt_nfe += validation.num_calls(sampler.num_steps - num_late, num_late)

    def step(self, i: int) -> StepReport:
        if i < self.sampler.num_steps:
            return self.first_pass(i)
        if self.twins is None:
            self.twins = self.scan_again(self.sampler.x0)
        if i < 2 * self.sampler.num_steps:
            return self.second_pass(i - self.sampler.num_steps, self.twins)
        assert self.validation is not None
        return self.validated_pass(i - 2 * self.sampler.num_steps, self.validation)

    def first_pass(self, i: int) -> StepReport:
        if self.late is None and self.is_late(i):
            self.late = self.sampler.fork()
        if self.validation is not None:
            self.validation.first_pass(i, self.is_late(i), self.first_network)
        self.residual = self.sampler.step(i, self.first_network).residual
        return StepReport(self.residual)

    def scan_again(self, x0: Tensor) -> Twins:
        """Twins of ``x0``, the first pass's result; the real sampler goes back to before its late steps."""
        self.scanned, self.sampler = x0, self.late or self.sampler
        return self.plan.twins(x0, self.sampler)

    def second_pass(self, i: int, twins: Twins) -> StepReport:
        loss, validation, adapts = None, self.validation, i in self.learner.adapting_steps
        if validation is not None and validation.given_up:
            self.nfe -= self.plan.num_copies
            self.adapt_nfe -= validation.num_calls(0, 1) + (self.adapt_nfe_a_step if adapts else 0)
        else:
            loss = self.learner.adapt(i, twins) if adapts else None
            twins.sampler.advance(i, self.learner.network_for_twins(self.plan.num_copies))
        if not self.is_late(i):
            return StepReport(self.residual)
        if validation is not None:
            return StepReport(self.residual, loss, validation.watch(i))
        self.residual = self.sampler.step(i, self.learner.network_for(i, twins)).residual
        return StepReport(self.residual, loss)

    def validated_pass(self, k: int, validation: Validation) -> StepReport:
        """The ``k``-th of the late steps, at the strength that was found to be best."""
        note = validation.choose(self.first_network is not None) if k == 0 else None
        i, network = validation.network(k)
        return StepReport(self.sampler.step(i, network).residual, note=note)

    def keep(self, state: State) -> None:
        self.residual = state.value("residual", self.residual)
        self.nfe, self.adapt_nfe = state.value("nfe", [self.nfe, self.adapt_nfe])
        self.learner.keep(state.within("learner"))
        if self.validation is not None:
            self.validation.keep(state.within("validation"))
        if state.value("is_scanned", self.scanned is not None):
            before = self.sampler.x0 if self.scanned is None else self.scanned
            scanned = state.slices("scanned", before, self.sampler.problem.slab)
            self.twins = self.twins or self.scan_again(scanned)
            self.twins.sampler.keep(state.within("twins"))
        elif state.value("is_late", self.late is not None):
            self.late = self.late or self.sampler.fork()
            self.late.keep(state.within("late"))
        self.sampler.keep(state.within("sampler"))

    def result(self) -> Tensor:
        return self.sampler.result()

    @property
    def adapter(self) -> Adapter | None:
        adapter, validation = self.learner.adapter, self.validation
        return adapter.at_strength(validation.strength) if adapter and validation else adapter

    def is_late(self, i: int) -> bool:
        return self.sampler.timesteps[i] <= self.learner.settings.adapt_start_t
