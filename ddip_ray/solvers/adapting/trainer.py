"""One adapter and its optimiser, which trains it on slices drawn over the volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ddip_ray.adaptation.load import load_adapter
from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.adaptation.update import adapt_step, draw_block, draw_slices
from ddip_ray.config.settings import AdaptationSettings, RunConfig
from ddip_ray.prior.denoiser import DiffusionPrior, Network
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.network_calls import Networks
from ddip_ray.solvers.core.random import key
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.core.steps import NUM_ORIENTATIONS
from ddip_ray.solvers.sampling.sampler import Sampler

DRAW = 0x5CD  # keys the slice draws apart from the image noise
_WARM_UP = 5  # optimiser steps

BindNetwork = Callable[[], Network]  # the adapted network as it now is, with a graph to the adapter
SliceLoss = Callable[
    [int], Tensor | None
]  # loss of a slice by its index in the volume; None: another worker's


class AdaptationLoss(Protocol):
    """The loss of an adapted network at one step of the trajectory, in one state."""

    @property
    def needs_neighbours(self) -> bool:
        """Whether it is the loss of neighbouring slices together, and not of each on its own."""
        ...

    def slice_loss(self, slices: Sequence[int], network: BindNetwork, draw: int) -> SliceLoss:
        """The loss as a function of the slice.

        Args:
            slices: indices in the volume of the slices that it will be asked for.
            network: the adapted network.
            draw: key of everything that is drawn.
        """
        ...


class Trainer(Protocol):
    """Trains the adapter or adapters of a volume, and gives the adapted networks to sample with."""

    @property
    def settings(self) -> AdaptationSettings:
        """How to adapt."""
        ...

    @property
    def adapter(self) -> Adapter | None:
        """The adapter of the whole volume; None where each slice has its own."""
        ...

    @property
    def has_initial_adapter(self) -> bool:
        """Whether training starts from an adapter that changes the network."""
        ...

    @property
    def num_training_slices(self) -> int:
        """Number of slices that train one adapter."""
        ...

    @property
    def num_drawn(self) -> int:
        """Number of slices in each optimiser step."""
        ...

    @property
    def adapting_steps(self) -> Sequence[int]:
        """Sampling steps before which the adapter is trained."""
        ...

    @property
    def num_slice_losses(self) -> int:
        """Number of losses of single slices that a whole run evaluates, over the volume."""
        ...

    def adapt(self, i: int, loss: AdaptationLoss) -> float:
        """Train at step ``i``; the mean loss in the last optimiser step."""
        ...

    def network(self) -> Network:
        """The adapted network, or the initial one of all slices."""
        ...

    def network_for(self, i: int, loss: AdaptationLoss) -> Networks:
        """The network for step ``i`` of the reconstruction itself, or one for each slice of the slab."""
        ...

    def network_for_copies(self, num_copies: int) -> Networks:
        """The network for rescan copies, or one for each of the ``num_copies`` of every slice."""
        ...

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand adapters and optimisers to ``recorder``, or take them from there."""
        ...


class AdapterTrainer:
    """Trains one adapter with Adam, ``num_adapt_steps`` times at each adapting step, on slices that it draws.

    D3IP (Chung and Ye, ECCV 2024, 2407.10641) draws slices in the same way. Deviations from its published
    code: weights of convolutions and attention only, no biases; no weight decay; one Adam kept over the whole
    trajectory, with a falling learning rate.
    """

    def __init__(
        self,
        sampler: Sampler,
        prior: DiffusionPrior,
        settings: AdaptationSettings,
        slices: Slab,
        communicator: Communicator,
        *,
        adapter: Adapter | None = None,
    ) -> None:
        """A trainer before its first step.

        Args:
            sampler: sampler that the adapted network is for.
            prior: its prior.
            settings: how to adapt.
            slices: slices that train the adapter.
            communicator: the workers that hold them.
            adapter: adapter to start from; None is a fresh one, which changes nothing.
        """
        self.sampler, self.prior, self.settings = sampler, prior, settings
        self.slices, self.communicator = slices, communicator
        self.has_initial_adapter = adapter is not None and adapter.changes_weights()
        config = LoraConfig(settings.lora_rank, settings.lora_scale, init_std=settings.lora_init_std)
        self.adapter = adapter or Adapter.create(prior.network, config, seed=key(sampler.seed, DRAW))
        self.optimizer = torch.optim.Adam(
            self.adapter.parameters.values(), lr=settings.learning_rate, betas=(0.9, 0.99)
        )
        self.num_training_slices = len(slices)
        self.num_drawn = min(settings.num_adapt_slices, len(slices))
        adapting = [i for i, t in enumerate(sampler.timesteps) if settings.adapts_at(t)]
        self.adapting_steps = adapting[:: settings.adapt_every]
        self.num_updates, self.updates = settings.num_adapt_steps * len(self.adapting_steps), 0
        self.num_slice_losses = self.num_updates * self.num_drawn

    def adapt(self, i: int, loss: AdaptationLoss) -> float:
        """Minimise the expected loss over the adapter by stochastic steps; the mean loss in the last one."""
        mean = 0.0
        for k in range(self.settings.num_adapt_steps):
            slices, network = self.draw(i, k, loss)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            mean = adapt_step(
                self.adapter,
                self.optimizer,
                slices,
                loss.slice_loss(slices, network, key(DRAW, i, k)),
                self.communicator.all_reduce,
            )
            self.updates += 1
        return mean

    def network(self) -> Network:
        """The adapted network, to reconstruct with."""
        with torch.no_grad():
            return self.adapter.bind(self.prior.network)

    def network_for(self, i: int, loss: AdaptationLoss) -> Networks:
        """Implements `Trainer`: one network for all slices."""
        return self.network()

    def network_for_copies(self, num_copies: int) -> Networks:
        """Implements `Trainer`: one network for all copies."""
        return self.network()

    def draw(self, i: int, k: int, loss: AdaptationLoss) -> tuple[list[int], BindNetwork]:
        """Slices for the ``k``-th update of step ``i``, and the network in a random orientation."""
        generator = torch.Generator().manual_seed(key(self.sampler.seed, DRAW, i, k))
        draw = draw_block if loss.needs_neighbours else draw_slices
        slices = [self.slices.start + z for z in draw(len(self.slices), self.num_drawn, generator)]
        orientation = int(torch.randint(NUM_ORIENTATIONS, (), generator=generator))
        return slices, lambda: self.sampler.reoriented(self.adapter.bind(self.prior.network), orientation)

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand adapter and optimiser to ``recorder``, or take them from there."""
        self.updates = recorder.value("updates", self.updates)
        self.adapter.load(recorder.shared("adapter", self.adapter.flat()))
        moments = {name: self.moments(name) for name in ("exp_avg", "exp_avg_sq")}
        moments = {name: recorder.shared(name, flat) for name, flat in moments.items()}
        if recorder.restoring:
            self.set_moments(moments)

    def moments(self, name: str) -> Tensor:
        """One of Adam's moments, in the order of `Adapter.flat`; zeros before its first step."""
        parameters = self.adapter.parameters.values()
        own = [self.optimizer.state[p].get(name, torch.zeros_like(p)) for p in parameters]
        return torch.cat([moment.detach().reshape(-1) for moment in own])

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Put Adam where it was after ``updates`` steps; moments are in the order of `Adapter.flat`."""
        split = {name: self.adapter.split(flat) for name, flat in moments.items()}
        for k, parameter in enumerate(self.adapter.parameters.values()):
            own = {name: parts[k].clone() for name, parts in split.items()}
            self.optimizer.state[parameter] = {"step": torch.tensor(float(self.updates)), **own}

    def learning_rate(self) -> float:
        """The rate of the next update: a short warm-up, then linearly down to ``final_rate`` of the peak."""
        fallen = (1 - self.settings.final_rate) * self.updates / max(1, self.num_updates)
        return min(1.0, (self.updates + 1) / _WARM_UP) * self.settings.learning_rate * (1 - fallen)


def volume_trainer(config: RunConfig, sampler: Sampler, prior: DiffusionPrior) -> AdapterTrainer:
    """The trainer of one adapter for the whole volume, starting from the configured adapter if any."""
    volume, given = Slab(0, sampler.problem.num_slices), load_adapter(config, prior)
    return AdapterTrainer(sampler, prior, config.adaptation, volume, sampler.communicator, adapter=given)
