"""DDIP and SCD: every slice has an adapter of its own (2D adaptation of a volume)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from ddip_ray.solvers.adapting.trainer import Judge, Learner
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.core.steps import Network
from ddip_ray.solvers.sampling.sampler import Sampler


class PerSlice:
    """A learner for each slice of the slab, which learns from that slice alone.

    The slices go along the trajectory side by side, so that the data consistency of all is found at once;
    nothing of one reaches another. Linear in the number of slices, in network calls and in adapters. The
    published loops over slices never reset the adapter, so that their slices inherit from each other.
    """

    adapter, num_teaching = None, 1

    def __init__(self, sampler: Sampler, learner_for: Callable[[Slab], Learner]) -> None:
        self.sampler, slab = sampler, sampler.problem.slab
        self.learners = {z: learner_for(Slab(z, z + 1)) for z in range(slab.start, slab.stop)}
        one = next(iter(self.learners.values()))
        self.settings, self.started, self.num_drawn = one.settings, one.started, one.num_drawn
        self.adapting_steps = one.adapting_steps
        self.num_judged = sampler.problem.num_slices * one.num_judged
        self.network = one.network  # a given adapter is the same for all, until they learn

    def adapt(self, i: int, judge: Judge) -> float:
        """As a `Learner`'s; the mean loss over all slices of the volume."""
        losses = [learner.adapt(i, judge) for learner in self.learners.values()]
        total = self.sampler.problem.y.new_tensor([sum(losses)], dtype=torch.float64)
        return float(self.sampler.communicator.all_reduce(total)) / self.sampler.problem.num_slices

    def network_for(self, i: int, judge: Judge) -> Iterator[Network]:
        return self.network_for_twins(1)

    def network_for_twins(self, num_copies: int) -> Iterator[Network]:
        # One at a time: networks of their own weights for every slice would fill the memory.
        for learner in self.learners.values():
            network = learner.network()
            for _ in range(num_copies):
                yield network

    def keep(self, state: State) -> None:
        for z, learner in self.learners.items():
            learner.keep(state.within(f"slice-{z}"))
