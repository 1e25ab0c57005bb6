"""D3IP (meta): the volume's adapter by Reptile, refined for a moment on each slice."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.adaptation.update import adapt_step, mean_over_slices
from ddip_ray.config.settings import MetaSettings
from ddip_ray.solvers.adapting.trainer import DRAW, Judge, Learner
from ddip_ray.solvers.core.random import key
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.core.steps import NUM_ORIENTATIONS, Network, Networks

_REFINE = 0x4EF  # keys the refinement's orientations apart


class Reptile:
    """The adapter θ moves towards what a few steps on single slices make of it (Nichol et al., 1803.02999).

    One outer step: for each drawn slice z, θ_z is θ after ``inner_steps`` of Adam on that slice alone; then
    θ ← θ + β mean(θ_z − θ), with β falling linearly. In the reconstruction itself each slice sees a θ_z of
    its own, made from the current θ by ``refine_steps`` on it alone.
    """

    def __init__(self, learner: Learner, meta: MetaSettings) -> None:
        self.learner, self.meta = learner, meta
        self.settings, self.adapter, self.started = learner.settings, learner.adapter, learner.started
        self.num_teaching, self.num_drawn = learner.num_teaching, learner.num_drawn
        self.adapting_steps = learner.adapting_steps
        refined = len(self.adapting_steps) * learner.num_teaching * meta.refine_steps
        self.num_judged = learner.num_judged * meta.inner_steps + refined

    def adapt(self, i: int, judge: Judge) -> float:
        learner, slab = self.learner, self.learner.sampler.problem.slab
        loss = 0.0
        for k in range(self.settings.num_adapt_steps):
            slices, _ = learner.draw(i, k, judge)
            before = self.adapter.flat()

            def moved(z: int, k: int = k, before: Tensor = before) -> Tensor | None:
                if z not in slab:
                    return None
                own, loss = self.tuned(i, z, judge, self.meta.inner_steps, key(DRAW, k))
                return torch.cat([own.flat() - before, before.new_tensor([loss])])

            mean = mean_over_slices(
                slices, moved, before.new_zeros(len(before) + 1), learner.communicator.all_reduce
            )
            self.adapter.add(self.outer_rate() * mean[:-1])
            loss = float(mean[-1])
            learner.updates += 1
        return loss

    def network(self) -> Network:
        return self.learner.network()

    def network_for(self, i: int, judge: Judge) -> Networks:
        if i not in self.adapting_steps:
            return self.network()
        # One at a time: networks of their own weights for every slice would fill the memory.
        slab = self.learner.sampler.problem.slab
        return (self.refined(i, z, judge) for z in range(slab.start, slab.stop))

    def network_for_twins(self, num_copies: int) -> Networks:
        return self.network()

    def refined(self, i: int, z: int, judge: Judge) -> Network:
        """The adapted network for step ``i`` of slice ``z``."""
        own, _ = self.tuned(i, z, judge, self.meta.refine_steps, _REFINE)
        with torch.no_grad():
            return own.bind(self.learner.sampler.prior.network)

    def tuned(self, i: int, z: int, judge: Judge, num_steps: int, purpose: int) -> tuple[Adapter, float]:
        """A copy of the adapter after ``num_steps`` of Adam on slice ``z`` alone, and its last loss."""
        own, loss, sampler = self.adapter.copy(), 0.0, self.learner.sampler
        optimizer = torch.optim.Adam(own.parameters.values(), lr=self.learner.learning_rate())
        generator = torch.Generator().manual_seed(key(sampler.seed, purpose, i, z))
        for j in range(num_steps):
            orientation = int(torch.randint(NUM_ORIENTATIONS, (), generator=generator))

            def network(k: int = orientation) -> Network:
                return sampler.oriented(own.bind(sampler.prior.network), k)

            slice_loss = judge.slice_loss(i, [z], network, key(purpose, i, j))
            loss = adapt_step(own, optimizer, [z], slice_loss, lambda tensor: tensor)
        return own, loss

    def keep(self, state: State) -> None:
        self.learner.keep(state)

    def outer_rate(self) -> float:
        left = 1 - self.learner.updates / self.learner.num_updates
        return self.meta.outer_rate * (left if self.meta.outer_decay else 1.0)
