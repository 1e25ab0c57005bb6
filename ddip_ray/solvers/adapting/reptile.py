"""D3IP (meta): the volume's adapter by Reptile, refined for a moment on each slice."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.adaptation.update import adapt_step, mean_over_slices
from ddip_ray.config.settings import MetaSettings, RunConfig
from ddip_ray.prior.denoiser import DiffusionPrior, Network
from ddip_ray.solvers.adapting.d3ip import build_adaptive
from ddip_ray.solvers.adapting.trainer import DRAW, AdaptationLoss, AdapterTrainer, volume_trainer
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.network_calls import Networks
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.random import key
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.core.steps import NUM_ORIENTATIONS
from ddip_ray.solvers.sampling import dds
from ddip_ray.solvers.sampling.sampler import Sampler

_REFINE = 0x4EF  # keys the refinement's orientations apart


class Reptile:
    """The adapter θ moves towards what a few optimiser steps on single slices make of it.

    Algorithm 1 of Nichol, Achiam and Schulman (On First-Order Meta-Learning Algorithms, 2018, 1803.02999).
    One outer step: for each drawn slice z, θ_z is θ after ``inner_steps`` of Adam on that slice alone; then
    θ ← θ + β mean(θ_z − θ), with β falling linearly. In the reconstruction itself each slice sees a θ_z of
    its own, made from the current θ by ``refine_steps`` on it alone.
    """

    def __init__(self, trainer: AdapterTrainer, meta: MetaSettings) -> None:
        self.trainer, self.meta, self.settings = trainer, meta, trainer.settings
        self.adapter, self.has_initial_adapter = trainer.adapter, trainer.has_initial_adapter
        self.num_training_slices, self.num_drawn = trainer.num_training_slices, trainer.num_drawn
        self.adapting_steps = trainer.adapting_steps
        refined = len(self.adapting_steps) * trainer.num_training_slices * meta.refine_steps
        self.num_slice_losses = trainer.num_slice_losses * meta.inner_steps + refined

    def adapt(self, i: int, loss: AdaptationLoss) -> float:
        """Take the outer steps of step ``i``; the mean loss in the last one."""
        trainer, slab = self.trainer, self.trainer.sampler.problem.slab
        mean_loss = 0.0
        for k in range(self.settings.num_adapt_steps):
            slices, _ = trainer.draw(i, k, loss)
            before = self.adapter.flat()

            def change_and_loss(z: int, k: int = k, before: Tensor = before) -> Tensor | None:
                if z not in slab:
                    return None
                tuned, last = self.tuned(i, z, loss, self.meta.inner_steps, key(DRAW, k))
                return torch.cat([tuned.flat() - before, before.new_tensor([last])])

            zeros = before.new_zeros(len(before) + 1)
            mean = mean_over_slices(slices, change_and_loss, zeros, trainer.communicator.all_reduce)
            self.adapter.add(self.outer_rate() * mean[:-1])
            mean_loss = float(mean[-1])
            trainer.updates += 1
        return mean_loss

    def network(self) -> Network:
        """The network with the volume's adapter."""
        return self.trainer.network()

    def network_for(self, i: int, loss: AdaptationLoss) -> Networks:
        """Implements `Trainer`: at adapting steps a refined network for each slice."""
        if i not in self.adapting_steps:
            return self.network()
        # One at a time: networks of their own weights for every slice would fill the memory.
        slab = self.trainer.sampler.problem.slab
        return (self.refined(i, z, loss) for z in range(slab.start, slab.stop))

    def network_for_copies(self, num_copies: int) -> Networks:
        """Implements `Trainer`: the volume's network for all copies."""
        return self.network()

    def refined(self, i: int, z: int, loss: AdaptationLoss) -> Network:
        """The adapted network for step ``i`` of slice ``z``."""
        tuned, _ = self.tuned(i, z, loss, self.meta.refine_steps, _REFINE)
        with torch.no_grad():
            return tuned.bind(self.trainer.prior.network)

    def tuned(
        self, i: int, z: int, loss: AdaptationLoss, num_steps: int, purpose: int
    ) -> tuple[Adapter, float]:
        """A copy of the adapter after some steps of Adam on one slice, and its last loss.

        Args:
            i: sampling step.
            z: index of the slice in the volume.
            loss: loss of the slice.
            num_steps: number of Adam steps.
            purpose: keys the orientations and draws.
        """
        adapter, last, sampler = self.adapter.copy(), 0.0, self.trainer.sampler
        optimizer = torch.optim.Adam(adapter.parameters.values(), lr=self.trainer.learning_rate())
        generator = torch.Generator().manual_seed(key(sampler.seed, purpose, i, z))
        for j in range(num_steps):
            orientation = int(torch.randint(NUM_ORIENTATIONS, (), generator=generator))

            def network(k: int = orientation) -> Network:
                return sampler.reoriented(adapter.bind(self.trainer.prior.network), k)

            slice_loss = loss.slice_loss([z], network, key(purpose, i, j))
            last = adapt_step(adapter, optimizer, [z], slice_loss, lambda tensor: tensor)
        return adapter, last

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the adapter to ``recorder``, or take it from there."""
        self.trainer.save_or_restore(recorder)

    def outer_rate(self) -> float:
        """β of the next outer step."""
        left = 1 - self.trainer.updates / self.trainer.num_updates
        return self.meta.outer_rate * (left if self.meta.outer_decay else 1.0)


def meta_trainer(config: RunConfig, sampler: Sampler, prior: DiffusionPrior) -> Reptile:
    """The trainer of one adapter for the whole volume by Reptile."""
    return Reptile(volume_trainer(config, sampler, prior), config.meta)


def build(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """D3IP (meta).

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
        trainer_for=meta_trainer,
    )
