"""An adapter for every slice of the volume (2D adaptation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from ddip_ray.adaptation.load import load_adapter
from ddip_ray.config.settings import RunConfig
from ddip_ray.prior.denoiser import DiffusionPrior, Network
from ddip_ray.solvers.adapting.trainer import AdaptationLoss, AdapterTrainer
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.sampling.sampler import Sampler


class PerSlice:
    """A trainer for each slice of the slab, which trains on that slice alone: SCD and DDIP.

    The slices go along the trajectory side by side, so that the data consistency of all is found at once;
    nothing of one reaches another. Network calls and adapters grow linearly with the number of slices. The
    published loops over slices never reset the adapter, so that their slices inherit from each other.
    """

    adapter, num_training_slices = None, 1

    def __init__(self, sampler: Sampler, trainer_for: Callable[[Slab], AdapterTrainer]) -> None:
        self.sampler, slab = sampler, sampler.problem.slab
        self.trainers = {z: trainer_for(Slab(z, z + 1)) for z in range(slab.start, slab.stop)}
        one = next(iter(self.trainers.values()))
        self.settings, self.num_drawn = one.settings, one.num_drawn
        self.has_initial_adapter, self.adapting_steps = one.has_initial_adapter, one.adapting_steps
        self.num_slice_losses = sampler.problem.num_slices * one.num_slice_losses
        self.network = one.network  # an initial adapter is the same for all, until they are trained

    def adapt(self, i: int, loss: AdaptationLoss) -> float:
        """Train every slice's adapter at step ``i``; the mean loss over all slices of the volume."""
        losses = [trainer.adapt(i, loss) for trainer in self.trainers.values()]
        total = self.sampler.problem.y.new_tensor([sum(losses)], dtype=torch.float64)
        return float(self.sampler.communicator.all_reduce(total)) / self.sampler.problem.num_slices

    def network_for(self, i: int, loss: AdaptationLoss) -> Iterator[Network]:
        """Implements `Trainer`: a network for each slice."""
        return self.network_for_copies(1)

    def network_for_copies(self, num_copies: int) -> Iterator[Network]:
        """Implements `Trainer`: the network of each slice, ``num_copies`` times."""
        # One at a time: networks of their own weights for every slice would fill the memory.
        for trainer in self.trainers.values():
            network = trainer.network()
            for _ in range(num_copies):
                yield network

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand all adapters and optimisers to ``recorder``, or take them from there."""
        for z, trainer in self.trainers.items():
            trainer.save_or_restore(recorder.within(f"slice-{z}"))


def trainer_per_slice(config: RunConfig, sampler: Sampler, prior: DiffusionPrior) -> PerSlice:
    """A trainer for each slice of the slab, all starting from the configured adapter if any."""
    given = load_adapter(config, prior)

    def trainer_for(slices: Slab) -> AdapterTrainer:
        own = None if given is None else given.copy()
        return AdapterTrainer(sampler, prior, config.adaptation, slices, Alone(), adapter=own)

    return PerSlice(sampler, trainer_for)
