"""D3IP: one low-rank adapter for the volume, trained on rescanned copies of a first reconstruction."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import RunConfig
from ddip_ray.prior.denoiser import DiffusionPrior, Prior
from ddip_ray.solvers.adapting.rescan_loss import RescanCopies, RescanPlan
from ddip_ray.solvers.adapting.scd import SCD, loss_config
from ddip_ray.solvers.adapting.trainer import Trainer, volume_trainer
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import DataConsistencyFor
from ddip_ray.solvers.core.method import Method, StepReport
from ddip_ray.solvers.core.network_calls import NetworkCalls, Networks, count_calls
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.sampling import dds, mbir
from ddip_ray.solvers.sampling.sampler import Sampler, SamplerState, build_sampler
from ddip_ray.solvers.validating.adaptation_strength import Validation


class D3IP:
    """Reconstruct, scan the result again, and learn from how well that rescan is reconstructed.

    Chung and Ye (Deep Diffusion Image Prior for Efficient OOD Adaptation in 3D Inverse Problems, ECCV 2024,
    2407.10641, section 3) alternate between adapting the network to the volume and sampling with it. Their
    loss is ‖A x0 − y‖ with the y that data consistency has just used (`SCD`); an adapter can lower it without
    denoising better. Here the loss is the image error of rescan copies, whose true image is known:

    1. First pass: the plain sampler reconstructs the volume.
    2. Smaller, rotated copies of each slice of its result are measured with the scan's operator and noise.
       The real state goes back to before the first timestep at or below ``adapt_start_t``.
    3. Second pass, at each timestep: train the adapter on copies of slices drawn over the volume, where the
       trainer trains; step the copies; at or below ``adapt_start_t`` also repeat the real step, adapted.
    4. With a ``validation`` the second pass makes no real steps. It may stop the training early; held-out
       views then choose the strength of the adapter, and a third pass makes the real steps with it.

    Variants: with a data consistency that couples slices this is D3IP (mbir), with `Reptile` as trainer D3IP
    (meta), with `PerSlice` DDIP.
    """

    def __init__(
        self, sampler: Sampler, trainer: Trainer, plan: RescanPlan, validation: Validation | None = None
    ) -> None:
        """D3IP for one slab, at its start.

        Args:
            sampler: sampler of the real reconstruction.
            trainer: trainer of the adapter.
            plan: how to make and reconstruct rescan copies.
            validation: decides how strongly to adapt; None adapts at full strength.
        """
        self.sampler, self.trainer, self.plan, self.validation = sampler, trainer, plan, validation
        # An initial adapter helps from the first step; the trainer changes it later.
        self.first_network = trainer.network() if trainer.has_initial_adapter else None
        self.prior_digest, self.residual = sampler.prior.digest, math.nan
        self.adapted_steps = [
            i for i, t in enumerate(sampler.timesteps) if t <= trainer.settings.adapt_start_t
        ]
        self.num_steps = 2 * sampler.num_steps + (len(self.adapted_steps) if validation else 0)
        self.state = sampler.initial_state()
        self.before_adapting: SamplerState | None = None  # state before the first of the adapted steps
        self.first_result: Tensor | None = None  # x0 after the first pass
        self.copies: RescanCopies | None = None  # made from the first result
        self.copies_state: SamplerState  # set by `rescan`

    def step(self, i: int) -> StepReport:
        """Take step ``i``: of the first, the second or the third pass."""
        if i < self.sampler.num_steps:
            return self.first_pass(i)
        copies = self.copies or self.rescan(self.state.x0)
        if i < 2 * self.sampler.num_steps:
            return self.second_pass(i - self.sampler.num_steps, copies)
        return self.validated_pass(i - 2 * self.sampler.num_steps)

    def first_pass(self, i: int) -> StepReport:
        """Take step ``i`` of the plain sampler; remember the state before the first adapted step."""
        is_adapted = self.is_adapted_step(i)
        if is_adapted and self.before_adapting is None:
            self.before_adapting = self.state
        if self.validation is not None:
            self.validation.first_pass(i, is_adapted, self.first_network)
        return self.step_real(i, self.first_network)

    def rescan(self, first_result: Tensor) -> RescanCopies:
        """Make copies of the first result; rewind the real state to before the adapted steps."""
        self.first_result, self.state = first_result, self.before_adapting or self.state
        self.before_adapting = None
        self.copies = self.plan.rescan(first_result, self.sampler)
        self.copies_state = self.copies.sampler.initial_state()
        return self.copies

    def second_pass(self, i: int, copies: RescanCopies) -> StepReport:
        """Adapt, step the copies, and step the real reconstruction or its validation."""
        loss, validation = None, self.validation
        if validation is None or not validation.stopped_early:
            if i in self.trainer.adapting_steps:
                loss = self.trainer.adapt(i, copies.loss(self.copies_state, i))
            network = self.trainer.network_for_copies(self.plan.num_copies)
            self.copies_state = copies.sampler.step(self.copies_state, i, network)
        if not self.is_adapted_step(i):
            return StepReport(self.residual)
        if validation is not None:
            return StepReport(self.residual, loss, validation.update(i))
        # A refinement on single slices (`Reptile`) has the loss of the copies after their step.
        return self.step_real(i, self.trainer.network_for(i, copies.loss(self.copies_state, i)), loss=loss)

    def validated_pass(self, k: int) -> StepReport:
        """Take the ``k``-th adapted step of the third pass, at the strength that was found to be best."""
        assert self.validation is not None
        note = self.validation.choose(self.first_network is not None) if k == 0 else None
        i, network = self.validation.network(k)
        return self.step_real(i, network, note=note)

    def step_real(
        self, i: int, network: Networks | None, loss: float | None = None, note: str | None = None
    ) -> StepReport:
        """Take step ``i`` of the real reconstruction by ``network``; ``loss`` and ``note`` are reported."""
        self.state = self.sampler.step(self.state, i, network)
        self.residual = self.sampler.residual(self.state)
        return StepReport(self.residual, loss, note)

    def is_adapted_step(self, i: int) -> bool:
        """Whether step ``i`` is repeated with an adapted network."""
        return i in self.adapted_steps

    def result(self) -> Tensor:
        """The slab in the acquisition's normalised units, (z, y, x)."""
        return self.sampler.result(self.state)

    @property
    def adapter(self) -> Adapter | None:
        """The adapter of the whole volume, at the chosen strength; None where each slice has its own."""
        adapter, validation = self.trainer.adapter, self.validation
        return adapter.at_strength(validation.strength) if adapter and validation else adapter

    @property
    def planned(self) -> NetworkCalls:
        """Network calls of a run whose training is not stopped early."""
        num_steps, num_adapted = self.sampler.num_steps, len(self.adapted_steps)
        adaptation = self.trainer.num_slice_losses * self.plan.num_drawn
        if self.validation is not None:
            adaptation += self.validation.planned_calls(num_steps - num_adapted, num_adapted)
        return NetworkCalls(num_steps + num_adapted + self.plan.num_copies * num_steps, adaptation)

    def network_calls(self) -> NetworkCalls:
        """Network calls that were made so far, counted."""
        steps, adaptation = [self.sampler.denoiser.calls], []
        if self.copies is not None:
            steps.append(self.copies.sampler.denoiser.calls)
            adaptation.append(self.copies.sampler.loss_denoiser.calls)
        if self.validation is not None:
            adaptation.append(self.validation.sampler.denoiser.calls)
        return count_calls(self.sampler.problem, self.sampler.communicator, steps, adaptation) or self.planned

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the states to ``recorder``, or take them from there.

        Names are those of older snapshots: learner (trainer), twins (copies), late (state before adapting),
        scanned (first result).
        """
        slab, state = self.sampler.problem.slab, self.state
        self.residual = recorder.value("residual", self.residual)
        self.trainer.save_or_restore(recorder.within("learner"))
        if self.validation is not None:
            self.validation.save_or_restore(recorder.within("validation"))
        if recorder.value("is_scanned", self.copies is not None):
            first_result = state.x0 if self.first_result is None else self.first_result
            first_result = recorder.slices("scanned", first_result, slab)
            copies, of_copies = self.copies or self.rescan(first_result), recorder.within("twins")
            self.copies_state = self.copies_state.save_or_restore(of_copies, copies.sampler.problem.slab)
            copies.sampler.save_or_restore_calls(of_copies)
        elif recorder.value("is_late", self.before_adapting is not None):
            before = self.before_adapting or state
            self.before_adapting = before.save_or_restore(recorder.within("late"), slab)
        self.state = state.save_or_restore(recorder.within("sampler"), slab)
        self.sampler.save_or_restore_calls(recorder.within("sampler"))


TrainerFor = Callable[[RunConfig, Sampler, DiffusionPrior], Trainer]
DataConsistencyOf = Callable[[RunConfig, Prior], DataConsistencyFor]


def build_adaptive(
    config: RunConfig,
    problem: SlabProblem,
    communicator: Communicator,
    prior: DiffusionPrior,
    *,
    data_consistency_of: DataConsistencyOf,
    trainer_for: TrainerFor,
) -> Method:
    """D3IP, or SCD where the loss is on the measurements.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: the network that is adapted.
        data_consistency_of: the data consistency of a configuration.
        trainer_for: makes the trainer of the adapter or adapters.
    """
    own = data_consistency_of(config, prior)
    sampler = build_sampler(config, problem, communicator, prior, own)
    trainer = trainer_for(config, sampler, prior)
    if config.adaptation.loss == "measurements":
        return SCD(sampler, trainer, config.scd, data_consistency_of(loss_config(config), prior))
    validation = None
    if config.adaptation.policy == "auto" and trainer.adapter is not None:
        validation = Validation(sampler, prior, config.validation, trainer.adapter)
    plan = RescanPlan.for_trainer(
        config.adaptation,
        sampler,
        trainer,
        # A copy has no neighbours, so copies have the data consistency of DDS in D3IP (mbir), too.
        data_consistency_for=dds.data_consistency_for(config, prior),
        loss_data_consistency_for=dds.data_consistency_for(loss_config(config), prior),
    )
    return D3IP(sampler, trainer, plan, validation)


def build(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """D3IP with the data consistency of DDS.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: the network that is adapted.
    """
    return build_adaptive(
        config,
        problem,
        communicator,
        prior,
        data_consistency_of=dds.data_consistency_for,
        trainer_for=volume_trainer,
    )


def build_mbir(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """D3IP (mbir): with the data consistency of DiffusionMBIR.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: the network that is adapted.
    """
    return build_adaptive(
        config,
        problem,
        communicator,
        prior,
        data_consistency_of=mbir.data_consistency_for,
        trainer_for=volume_trainer,
    )
