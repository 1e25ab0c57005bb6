"""D3IP (base): one low-rank adapter for the whole volume, adapted along the trajectory."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.adaptation.update import adapt_step, draw_slices
from ddip_ray.operators.view_subset import ViewSubset
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.held_out import held_out_views, relative_misfit
from ddip_ray.solvers.method import StepReport
from ddip_ray.solvers.noise import key
from ddip_ray.solvers.settings import AdaptationSettings
from ddip_ray.solvers.steps import data_consistency

_DRAW = 0x5CD  # keys the slice draws apart from the image noise
_WARM_UP = 5  # optimiser steps


class D3IP:
    """Before each DDS step near the end, a few optimiser steps on slices drawn at random over the volume.

    What is adapted to is the part of the measurements that a twin reconstruction, run beside the real
    one, never sees (``hold_out_every``, other views for neighbouring slices): the adapter learns to
    remove what sparse views leave behind. The published loss judges by the views that made the
    estimate, which an adapter can satisfy by not denoising at all.

    Further deviations from the published code: weights of convolutions and attention only, no biases;
    no weight decay; one Adam kept over the whole trajectory, its rate falling.
    """

    def __init__(self, dds: DDS, settings: AdaptationSettings, adapter: Adapter | None = None) -> None:
        self.dds, self.settings = dds, settings
        config = LoraConfig(settings.lora_rank, settings.lora_scale)
        self.adapter = adapter or Adapter.create(dds.prior.network, config, seed=key(dds.seed, _DRAW))
        self.optimizer = torch.optim.Adam(
            self.adapter.parameters.values(), lr=settings.learning_rate, betas=(0.9, 0.99)
        )
        self.num_steps = dds.num_steps
        slab, num_views = dds.problem.slab, dds.problem.operator.measurement_shape[0]
        self.twin, self.keep = dds, torch.ones(len(slab), num_views, 1).to(dds.problem.y)
        self.judged = self.keep
        if settings.hold_out_every:
            self.judged = held_out_views(slab, num_views, settings.hold_out_every).to(dds.problem.y)
            self.keep = 1 - self.judged
            self.twin = dds.on(dds.problem.keeping(self.keep))
        self.nfe = dds.nfe * (1 if self.twin is dds else 2)
        self.num_updates = settings.num_adapt_steps * sum(self.adapts_at(i) for i in range(self.num_steps))
        self.adapt_nfe = self.num_updates * min(settings.num_adapt_slices, dds.problem.num_slices)

    def step(self, i: int) -> StepReport:
        loss = self.adapt(i) if self.adapts_at(i) else None
        with torch.no_grad():
            network = self.adapter.bind(self.dds.prior.network)
        if self.twin is not self.dds:
            self.twin.advance(i, network)
        report = self.dds.step(i, network)
        return StepReport(report.residual, loss)

    def result(self) -> Tensor:
        return self.dds.result()

    def adapts_at(self, i: int) -> bool:
        return self.settings.adapt_end_t <= self.dds.timesteps[i] <= self.settings.adapt_start_t

    def adapt(self, i: int) -> float:
        """min over Δθ of the expected `slice_loss`, by ``num_adapt_steps`` stochastic steps."""
        loss = 0.0
        before = sum(self.adapts_at(j) for j in range(i)) * self.settings.num_adapt_steps
        for k in range(self.settings.num_adapt_steps):
            generator = torch.Generator().manual_seed(key(self.dds.seed, _DRAW, i, k))
            slices = draw_slices(self.dds.problem.num_slices, self.settings.num_adapt_slices, generator)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(before + k)
            loss = adapt_step(
                self.adapter,
                self.optimizer,
                slices,
                lambda z: self.slice_loss(i, z),
                self.dds.communicator.all_reduce,
            )
        return loss

    def learning_rate(self, update: int) -> float:
        """Linear from ``learning_rate`` to ``final_learning_rate`` over all updates, after a warm-up."""
        first, last = self.settings.learning_rate, self.settings.final_learning_rate
        return min(1.0, (update + 1) / _WARM_UP) * (first + (last - first) * update / self.num_updates)

    def slice_loss(self, i: int, z: int) -> Tensor | None:
        """`relative_misfit` of the estimate x̂0′ on the judged views of slice ``z``; None if another worker's.

        Data consistency comes between x̂0′ and the loss, but the gradient passes it by: it would only
        remove from the gradient what the measurements fix anyway.
        """
        problem, slab = self.dds.problem, self.dds.problem.slab
        if z not in slab:
            return None
        t = self.dds.timesteps[i]
        local = slice(z - slab.start, z - slab.start + 1)
        judged, y = self.judged[local], problem.y[local]
        network = self.adapter.bind(self.dds.prior.network)
        x0_hat, _ = self.dds.prior.denoise(self.twin.x_t[local], t, network)
        if self.settings.loss_cg_iterations:
            seen = ViewSubset(problem.operator, self.keep[local])
            with torch.no_grad():
                x0 = data_consistency(
                    seen, seen.keep * y, x0_hat, self.dds.gamma(t), self.settings.loss_cg_iterations
                )
                correction = x0 - x0_hat
            x0_hat = x0_hat + correction
        return relative_misfit(y, problem.operator.forward(x0_hat), judged).squeeze()
