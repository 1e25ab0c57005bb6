"""The volume's one adapter, and the optimiser that teaches it from slices drawn over the volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.adaptation.update import adapt_step, draw_run, draw_slices
from ddip_ray.config.settings import AdaptationSettings
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.random import key
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.core.steps import NUM_ORIENTATIONS, Network, Networks
from ddip_ray.solvers.sampling.sampler import Sampler

DRAW = 0x5CD  # keys the slice draws apart from the image noise
_WARM_UP = 5  # optimiser steps

BindNetwork = Callable[[], Network]  # the adapted network as it now is, with a graph to the adapter
SliceLoss = Callable[[int], Tensor | None]  # of a global slice index; None: another worker's slice


class Judge(Protocol):
    """Says how good the adapted network is at step ``i`` of the trajectory; ``draw`` keys what it draws."""

    @property
    def judges_runs(self) -> bool:
        """Whether it judges neighbouring slices together, and not each on its own."""
        ...

    def slice_loss(self, i: int, slices: Sequence[int], network: BindNetwork, draw: int) -> SliceLoss: ...


class Learner:
    """Adam, ``num_adapt_steps`` at each timestep that adapts, on slices drawn over ``volume``.

    A judge may want runs of neighbours. Deviations from the published code: weights
    of convolutions and attention only, no biases; no weight decay; one Adam kept over the whole trajectory,
    its rate falling.
    """

    def __init__(
        self,
        sampler: Sampler,
        settings: AdaptationSettings,
        volume: Slab,
        communicator: Communicator,
        adapter: Adapter | None = None,
    ) -> None:
        self.sampler, self.settings = sampler, settings
        self.volume, self.communicator = volume, communicator
        self.started = adapter is not None and adapter.changes_weights()
        config = LoraConfig(settings.lora_rank, settings.lora_scale, init_std=settings.lora_init_std)
        self.adapter = adapter or Adapter.create(sampler.prior.network, config, seed=key(sampler.seed, DRAW))
        self.optimizer = torch.optim.Adam(
            self.adapter.parameters.values(), lr=settings.learning_rate, betas=(0.9, 0.99)
        )
        self.num_teaching = len(volume)  # slices that teach this adapter
        self.num_drawn = min(settings.num_adapt_slices, len(volume))
        adapting = [i for i, t in enumerate(sampler.timesteps) if settings.adapts_at(t)]
        self.adapting_steps = adapting[:: settings.adapt_every]
        self.num_updates, self.updates = settings.num_adapt_steps * len(self.adapting_steps), 0
        self.num_judged = self.num_updates * self.num_drawn

    def adapt(self, i: int, judge: Judge) -> float:
        """min over Δθ of the judge's expected loss, by stochastic steps; the last one's loss."""
        loss = 0.0
        for k in range(self.settings.num_adapt_steps):
            slices, network = self.draw(i, k, judge)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            loss = adapt_step(
                self.adapter,
                self.optimizer,
                slices,
                judge.slice_loss(i, slices, network, key(DRAW, i, k)),
                self.communicator.all_reduce,
            )
            self.updates += 1
        return loss

    def network(self) -> Network:
        """The adapted network, to reconstruct with."""
        with torch.no_grad():
            return self.adapter.bind(self.sampler.prior.network)

    def network_for(self, i: int, judge: Judge) -> Networks:
        """The network for step ``i`` of the reconstruction itself, or one for each slice of the slab."""
        return self.network()

    def network_for_twins(self, num_copies: int) -> Networks:
        """The network for the twins, of which there are so many of each slice."""
        return self.network()

    def draw(self, i: int, k: int, judge: Judge) -> tuple[list[int], BindNetwork]:
        """Slices for the ``k``-th update of step ``i``, and the network in a random orientation."""
        generator = torch.Generator().manual_seed(key(self.sampler.seed, DRAW, i, k))
        draw = draw_run if judge.judges_runs else draw_slices
        slices = [self.volume.start + z for z in draw(len(self.volume), self.num_drawn, generator)]
        orientation = int(torch.randint(NUM_ORIENTATIONS, (), generator=generator))
        prior = self.sampler.prior
        return slices, lambda: self.sampler.oriented(self.adapter.bind(prior.network), orientation)

    def keep(self, state: State) -> None:
        self.updates = state.value("updates", self.updates)
        self.adapter.load(state.shared("adapter", self.adapter.flat()))
        moments = {name: self.moments(name) for name in ("exp_avg", "exp_avg_sq")}
        moments = {name: state.shared(name, flat) for name, flat in moments.items()}
        if state.restoring:
            self.set_moments(moments)

    def moments(self, name: str) -> Tensor:
        """Adam's, in the order of `Adapter.flat`; zeros before its first step."""
        parameters = self.adapter.parameters.values()
        own = [self.optimizer.state[p].get(name, torch.zeros_like(p)) for p in parameters]
        return torch.cat([moment.detach().reshape(-1) for moment in own])

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Adam's after ``updates`` steps, each in the order of `Adapter.flat`."""
        split = {name: self.adapter.split(flat) for name, flat in moments.items()}
        for k, parameter in enumerate(self.adapter.parameters.values()):
            own = {name: parts[k].clone() for name, parts in split.items()}
            self.optimizer.state[parameter] = {"step": torch.tensor(float(self.updates)), **own}

    def learning_rate(self) -> float:
        """From its highest, linearly to ``final_rate`` of that over all updates, after a warm-up."""
        fallen = (1 - self.settings.final_rate) * self.updates / max(1, self.num_updates)
        return min(1.0, (self.updates + 1) / _WARM_UP) * self.settings.learning_rate * (1 - fallen)
