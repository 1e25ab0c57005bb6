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
from ddip_ray.solvers.rescan import check_rescannable, rescan_between, rescan_downsampled
from ddip_ray.solvers.settings import AdaptationSettings
from ddip_ray.solvers.steps import NUM_ORIENTATIONS, Network
from ddip_ray.solvers.twin import Twin

_DRAW, _RESCAN = 0x5CD, 0x75C  # key the slice draws and the rescans' noise apart from the image noise
_WARM_UP = 5  # optimiser steps


class D3IP:
    """Reconstruct, scan the result again, and learn from how well its twins are reconstructed.

    The first pass is plain DDS. Its result is scanned again (`rescan_downsampled` for clean data,
    `rescan_between` for noisy), and in the second pass twins are reconstructed from these scans.
    Before each of their late steps the adapter takes a few optimiser steps on slices drawn at random
    over the volume, judged by data that the twins never saw; the real reconstruction repeats its late
    steps with the same adapter. The published loss judges by the views that made the estimate, which
    an adapter can satisfy by not denoising at all.

    Further deviations from the published code: weights of convolutions and attention only, no biases;
    no weight decay; one Adam kept over the whole trajectory, its rate falling.
    """

    def __init__(self, dds: DDS, settings: AdaptationSettings, adapter: Adapter | None = None) -> None:
        self.dds, self.settings = dds, settings
        noisy = dds.problem.noise_std > 0
        self.downsampling = settings.downsampling or (1 if noisy else 2)
        check_rescannable(dds.problem, self.downsampling)
        self.highest_rate = settings.learning_rate or (1e-3 if noisy else 3e-4)
        config = LoraConfig(settings.lora_rank, settings.lora_scale)
        with torch.no_grad():
            self.first_network = adapter.bind(dds.prior.network) if adapter else None
        self.adapter = adapter or Adapter.create(dds.prior.network, config, seed=key(dds.seed, _DRAW))
        self.optimizer = torch.optim.Adam(
            self.adapter.parameters.values(), lr=self.highest_rate, betas=(0.9, 0.99)
        )
        self.num_twins = settings.num_rotations if self.downsampling > 1 else 1
        self.twins: list[Twin] = []
        self.restart: Tensor | None = None  # where the late steps began in the first pass
        self.num_drawn = min(self.downsampling * settings.num_adapt_slices, dds.problem.num_slices)

        num_late = sum(self.is_late(i) for i in range(dds.num_steps))
        self.num_steps = 2 * dds.num_steps
        self.nfe = dds.nfe + num_late + self.num_twins * dds.nfe
        self.num_updates = settings.num_adapt_steps * sum(self.adapts_at(i) for i in range(dds.num_steps))
        self.adapt_nfe = self.num_updates * self.num_drawn

    def step(self, i: int) -> StepReport:
        if i < self.dds.num_steps:
            return self.first_pass(i)
        return self.second_pass(i - self.dds.num_steps)

    def first_pass(self, i: int) -> StepReport:
        if self.restart is None and self.is_late(i):
            self.restart = self.dds.x_t
        self.report = self.dds.step(i, self.first_network)
        if i == self.dds.num_steps - 1:
            self.twins = [self.twin(k) for k in range(self.num_twins)]
            if self.restart is not None:
                self.dds.x_t = self.restart
        return self.report

    def second_pass(self, i: int) -> StepReport:
        loss = self.adapt(i) if self.adapts_at(i) else None
        with torch.no_grad():
            network = self.adapter.bind(self.dds.prior.network)
        for twin in self.twins:
            twin.dds.advance(i, network)
        if self.is_late(i):
            self.report = self.dds.step(i, network)
        return StepReport(self.report.residual, loss)

    def result(self) -> Tensor:
        return self.dds.result()

    def is_late(self, i: int) -> bool:
        return self.dds.timesteps[i] <= self.settings.adapt_start_t

    def adapts_at(self, i: int) -> bool:
        return self.is_late(i) and self.dds.timesteps[i] >= self.settings.adapt_end_t

    def twin(self, k: int) -> Twin:
        problem, seed = self.dds.problem, key(self.dds.seed, _RESCAN, k)
        with torch.no_grad():
            if self.downsampling == 1:
                return Twin(self.dds, rescan_between(problem, self.dds.x0, seed))
            # The golden angle: any number of turns is spread evenly.
            rotation = math.pi * (k * (math.sqrt(5) - 1) / 2 % 1)
            return Twin(self.dds, rescan_downsampled(problem, self.dds.x0, self.downsampling, rotation, seed))

    def adapt(self, i: int) -> float:
        """min over Δθ of the twins' expected `Twin.loss`, by stochastic steps; the twins take turns."""
        loss = 0.0
        before = sum(self.adapts_at(j) for j in range(i)) * self.settings.num_adapt_steps
        for k in range(self.settings.num_adapt_steps):
            generator = torch.Generator().manual_seed(key(self.dds.seed, _DRAW, i, k))
            slices = draw_slices(self.dds.problem.num_slices, self.num_drawn, generator)
            orientation = int(torch.randint(NUM_ORIENTATIONS, (), generator=generator))
            twin = self.twins[k % len(self.twins)]
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(before + k)
            loss = adapt_step(
                self.adapter,
                self.optimizer,
                slices,
                lambda z, twin=twin, k=orientation: twin.loss(  # type: ignore[misc]
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
        return min(1.0, (update + 1) / _WARM_UP) * self.highest_rate * (1 - fallen)
