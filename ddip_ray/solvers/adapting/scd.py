"""SCD: the network of each step is adapted to the measurements (Barbano et al., 2308.14409)."""

from __future__ import annotations

from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import RunConfig, SCDSettings
from ddip_ray.errors import InputError
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.adapting.measurement_loss import MeasurementLoss
from ddip_ray.solvers.adapting.per_slice import trainer_per_slice
from ddip_ray.solvers.adapting.trainer import Trainer
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import DataConsistencyFor
from ddip_ray.solvers.core.method import Method, StepReport
from ddip_ray.solvers.core.network_calls import NetworkCalls, count_calls
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.sampling import dds
from ddip_ray.solvers.sampling.sampler import Sampler, build_sampler


class SCD:
    """Before each step, a few optimiser steps on ‖A x0(Δθ) − y‖², through data consistency; then the step.

    Barbano et al. (Steerable Conditional Diffusion for Out-of-Distribution Adaptation in Medical Image
    Reconstruction, IEEE TMI 2025, 2308.14409), with an adapter for every slice. With one adapter for the
    volume it is D3IP as published (Chung and Ye, ECCV 2024, 2407.10641), whose authors call the method with
    an adapter for every slice DDIP.
    """

    def __init__(
        self,
        sampler: Sampler,
        trainer: Trainer,
        settings: SCDSettings,
        loss_data_consistency_for: DataConsistencyFor,
    ) -> None:
        """SCD for one slab, at its start.

        Args:
            sampler: sampler of the reconstruction.
            trainer: trainer of its adapter, or of those of its slices.
            settings: weight of total variation in the loss.
            loss_data_consistency_for: data consistency between an estimate and its loss.

        Raises:
            InputError: slices are coupled, and each has measurements of its own kind.
        """
        self.sampler, self.trainer, self.settings = sampler, trainer, settings
        self.loss_data_consistency_for = loss_data_consistency_for
        couples_slices = sampler.data_consistency.couples_slices
        if couples_slices and sampler.problem.central_operator is not None:
            raise InputError(
                "adaptation.loss: measurements takes neighbours together only where all slices are measured "
                "alike",
                "Use loss: rescan, the default.",
            )
        self.num_steps, self.prior_digest = sampler.num_steps, sampler.prior.digest
        # A block of neighbours is denoised once more, because its loss needs all estimates together.
        calls_of_loss = 2 if couples_slices else 1
        self.planned = NetworkCalls(sampler.num_steps, trainer.num_slice_losses * calls_of_loss)
        self.state = sampler.initial_state()

    def step(self, i: int) -> StepReport:
        """Adapt, then take reverse step ``i``."""
        loss, value = self.loss(i), None
        if i in self.trainer.adapting_steps:
            value = self.trainer.adapt(i, loss)
        self.state = self.sampler.step(self.state, i, self.trainer.network_for(i, loss))
        return StepReport(self.sampler.residual(self.state), value)

    def loss(self, i: int) -> MeasurementLoss:
        """The loss of networks at step ``i`` in the present state."""
        return MeasurementLoss(self.sampler, self.settings, self.loss_data_consistency_for, self.state, i)

    def result(self) -> Tensor:
        """The slab in the acquisition's normalised units, (z, y, x)."""
        return self.sampler.result(self.state)

    @property
    def adapter(self) -> Adapter | None:
        """The adapter of the whole volume; None where each slice has its own."""
        return self.trainer.adapter

    def network_calls(self) -> NetworkCalls:
        """Network calls that were made so far, counted."""
        sampler = self.sampler
        steps, losses = sampler.denoiser.calls, sampler.loss_denoiser.calls
        return count_calls(sampler.problem, sampler.communicator, [steps], [losses]) or self.planned

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the state to ``recorder``, or take it from there."""
        of_sampler = recorder.within("sampler")
        self.state = self.state.save_or_restore(of_sampler, self.sampler.problem.slab)
        self.sampler.save_or_restore_calls(of_sampler)
        self.trainer.save_or_restore(recorder.within("learner"))


def loss_config(config: RunConfig) -> RunConfig:
    """The configuration of the data consistency inside the loss.

    It has ``loss_cg_iterations`` CG iterations, and for DiffusionMBIR two sweeps, because the first starts
    from a zero dual and does not couple slices yet.
    """
    own = config.adaptation.loss_cg_iterations
    num_iterations = {"cg_iterations": own, "final_cg_iterations": own}
    update = {
        "sampler": config.sampler.model_copy(update=num_iterations),
        "mbir": config.mbir.model_copy(update={"sweeps": 2 if config.mbir.admm is None else 1}),
    }
    return config.model_copy(update=update)


def build(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """SCD with the data consistency of DDS.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: the network that is adapted.
    """
    own, in_loss = (dds.data_consistency_for(c, prior) for c in (config, loss_config(config)))
    sampler = build_sampler(config, problem, communicator, prior, own)
    return SCD(sampler, trainer_per_slice(config, sampler, prior), config.scd, in_loss)
