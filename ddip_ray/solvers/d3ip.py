"""D3IP (base): one low-rank adapter for the whole volume, adapted along the trajectory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.adaptation.update import adapt_step, draw_slices
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.method import StepReport
from ddip_ray.solvers.noise import key
from ddip_ray.solvers.rescan import check_rescannable, rescan
from ddip_ray.solvers.settings import AdaptationSettings
from ddip_ray.solvers.steps import NUM_ORIENTATIONS, Network
from ddip_ray.solvers.twins import Twins

_DRAW, _RESCAN = 0x5CD, 0x75C  # key the slice draws and the rescans' noise apart from the image noise
_WARM_UP = 5  # optimiser steps


class D3IP:
    """Reconstruct, scan the result again, and learn from how well that is reconstructed.

    The first pass is plain DDS. Smaller copies of its result are scanned (`rescan`), and in the second
    pass these twins are reconstructed. Before each of their late steps the adapter takes a few
    optimiser steps on the twins of slices drawn at random over the volume; the real reconstruction
    repeats its late steps with the same adapter. The published loss judges by the views that made the
    estimate, which an adapter can satisfy by not denoising at all.

    Further deviations from the published code: weights of convolutions and attention only, no biases;
    no weight decay; one Adam kept over the whole trajectory, its rate falling.
    """

    def __init__(self, dds: DDS, settings: AdaptationSettings, adapter: Adapter | None = None) -> None:
        self.dds, self.settings = dds, settings
        check_rescannable(dds.problem, settings.downsampling)
        config = LoraConfig(settings.lora_rank, settings.lora_scale)
        with torch.no_grad():
            self.first_network = adapter.bind(dds.prior.network) if adapter else None
        self.adapter = adapter or Adapter.create(dds.prior.network, config, seed=key(dds.seed, _DRAW))
        self.optimizer = torch.optim.Adam(
            self.adapter.parameters.values(), lr=settings.learning_rate, betas=(0.9, 0.99)
        )
        self.twins: Twins | None = None  # once the first pass is done
        self.restart: Tensor | None = None  # where the late steps began in the first pass
        self.residual = math.nan
        self.num_drawn = min(settings.num_adapt_slices, dds.problem.num_slices)

        num_late = sum(self.is_late(i) for i in range(dds.num_steps))
        self.num_steps = 2 * dds.num_steps
        self.nfe = dds.nfe + num_late + settings.num_twins * dds.nfe
        self.num_updates = settings.num_adapt_steps * sum(self.adapts_at(i) for i in range(dds.num_steps))
        self.adapt_nfe = self.num_updates * self.num_drawn * settings.num_twins

    def step(self, i: int) -> StepReport:
        if i < self.dds.num_steps:
            return self.first_pass(i)
        if self.twins is None:
            self.twins = self.scan_again()
        return self.second_pass(i - self.dds.num_steps, self.twins)

    def first_pass(self, i: int) -> StepReport:
        if self.restart is None and self.is_late(i):
            self.restart = self.dds.x_t
        self.residual = self.dds.step(i, self.first_network).residual
        return StepReport(self.residual)

    def scan_again(self) -> Twins:
        settings = self.settings
        seed = key(self.dds.seed, _RESCAN)
        with torch.no_grad():
            again = rescan(self.dds.problem, self.dds.x0, settings.downsampling, settings.num_twins, seed)
        if self.restart is not None:
            self.dds.x_t = self.restart
        return Twins(self.dds, again)

    def second_pass(self, i: int, twins: Twins) -> StepReport:
        loss = self.adapt(i, twins) if self.adapts_at(i) else None
        with torch.no_grad():
            network = self.adapter.bind(self.dds.prior.network)
        twins.dds.advance(i, network)
        if self.is_late(i):
            self.residual = self.dds.step(i, network).residual
        return StepReport(self.residual, loss)

    def result(self) -> Tensor:
        return self.dds.result()

    def is_late(self, i: int) -> bool:
        return self.dds.timesteps[i] <= self.settings.adapt_start_t

    def adapts_at(self, i: int) -> bool:
        return self.is_late(i) and self.dds.timesteps[i] >= self.settings.adapt_end_t

    def adapt(self, i: int, twins: Twins) -> float:
        """min over Δθ of the expected `Twins.loss`, by stochastic steps."""
        loss = 0.0
        before = sum(self.adapts_at(j) for j in range(i)) * self.settings.num_adapt_steps
        for k in range(self.settings.num_adapt_steps):
            generator = torch.Generator().manual_seed(key(self.dds.seed, _DRAW, i, k))
            slices = draw_slices(self.dds.problem.num_slices, self.num_drawn, generator)
            orientation = int(torch.randint(NUM_ORIENTATIONS, (), generator=generator))
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(before + k)
            loss = adapt_step(
                self.adapter,
                self.optimizer,
                slices,
                lambda z, k=orientation: twins.loss(  # type: ignore[misc]
                    i, z, self.network(k), self.settings.loss_cg_iterations
                ),
                self.dds.communicator.all_reduce,
            )
        return loss

    def network(self, orientation: int) -> Network:
        return self.dds.oriented(self.adapter.bind(self.dds.prior.network), orientation)

    def learning_rate(self, update: int) -> float:
        """From its highest, linearly to ``final_rate`` of that over all updates, after a warm-up."""
        fallen = (1 - self.settings.final_rate) * update / self.num_updates
        return min(1.0, (update + 1) / _WARM_UP) * self.settings.learning_rate * (1 - fallen)
