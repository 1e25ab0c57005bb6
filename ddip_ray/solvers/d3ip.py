"""D3IP (base): one low-rank adapter for the whole volume, adapted along the trajectory."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.adaptation.update import adapt_step, draw_slices
from ddip_ray.operators.inner_product import slice_dot
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.method import StepReport
from ddip_ray.solvers.noise import key
from ddip_ray.solvers.settings import AdaptationSettings
from ddip_ray.solvers.steps import data_consistency

_DRAW = 0x5CD  # keys the slice draws apart from the image noise


class D3IP:
    """Before each DDS step, a few optimiser steps on slices drawn at random over the volume.

    Deviations from the published code: weights of convolutions and attention only, no biases; no
    weight decay; one Adam kept over the whole trajectory instead of a new one at each timestep; the
    loss on the bare estimate by default, before CG.
    """

    def __init__(self, dds: DDS, settings: AdaptationSettings, adapter: Adapter | None = None) -> None:
        self.dds, self.settings = dds, settings
        config = LoraConfig(settings.lora_rank, settings.lora_scale)
        self.adapter = adapter or Adapter.create(dds.prior.network, config, seed=key(dds.seed, _DRAW))
        # Gradients come in units of their own size: eps mutes what is a hundredth of that or less, whose
        # sign rounding could decide, and with it the agreement between layouts.
        self.optimizer = torch.optim.Adam(
            self.adapter.parameters.values(), lr=settings.learning_rate, eps=1e-2
        )
        self.num_steps, self.nfe = dds.num_steps, dds.nfe
        per_step = settings.num_adapt_steps * min(settings.num_adapt_slices, dds.problem.num_slices)
        self.adapt_nfe = per_step * sum(self.adapts_at(i) for i in range(self.num_steps))

    def step(self, i: int) -> StepReport:
        loss = self.adapt(i) if self.adapts_at(i) else None
        with torch.no_grad():
            network = self.adapter.bind(self.dds.prior.network)
        report = self.dds.step(i, network)
        return StepReport(report.residual, loss)

    def result(self) -> Tensor:
        return self.dds.result()

    def adapts_at(self, i: int) -> bool:
        s, t = self.settings, self.dds.timesteps[i]
        return s.adapt_end_t <= t <= s.adapt_start_t and i % s.adapt_every == 0

    def adapt(self, i: int) -> float:
        """min over Δθ of E_z ‖A x̂0(Δθ)_z − y_z‖², by ``num_adapt_steps`` stochastic steps."""
        loss = 0.0
        for k in range(self.settings.num_adapt_steps):
            generator = torch.Generator().manual_seed(key(self.dds.seed, _DRAW, i, k))
            slices = draw_slices(self.dds.problem.num_slices, self.settings.num_adapt_slices, generator)
            loss = adapt_step(
                self.adapter,
                self.optimizer,
                slices,
                lambda z: self.slice_loss(i, z),
                self.dds.communicator.all_reduce,
            )
        return loss

    def slice_loss(self, i: int, z: int) -> Tensor | None:
        """‖A x̂0′ − y‖²/‖y‖² of slice ``z``, with a graph to the adapter; None if another worker's."""
        problem, slab = self.dds.problem, self.dds.problem.slab
        if z not in slab:
            return None
        t = self.dds.timesteps[i]
        local = slice(z - slab.start, z - slab.start + 1)
        y = problem.y[local]
        network = self.adapter.bind(self.dds.prior.network)
        x0_hat, _ = self.dds.prior.denoise(self.dds.x_t[local], t, network)
        if self.settings.loss_cg_iterations:
            x0_hat = data_consistency(
                problem.operator, y, x0_hat, self.dds.gamma(t), self.settings.loss_cg_iterations
            )
        misfit = problem.operator.forward(x0_hat) - y
        return (slice_dot(misfit, misfit) / slice_dot(y, y)).squeeze()
