"""Twins: reconstructions of a rescan, judged by the images that were scanned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddip_ray.solvers.communicator import Alone
from ddip_ray.solvers.learner import BindNetwork, SliceLoss
from ddip_ray.solvers.rescan import Rescan
from ddip_ray.solvers.sampler import Denoised, RuleFor, Sampler
from ddip_ray.solvers.slab import Slab
from ddip_ray.solvers.steps import Network


class Twins:
    """Several smaller copies of each slice of the ``real`` reconstruction, on the same trajectory.

    ``judge`` makes the rule that stands between the estimate and its loss.
    """

    def __init__(self, real: Sampler, rescan: Rescan, judge: RuleFor) -> None:
        self.sampler, self.rescan, self.judge = real.on(rescan.scan), rescan, judge
        self.slab: Slab = real.problem.slab
        self.calls = self.num_copies = rescan.scan.num_copies

    def slice_loss(self, i: int, slices: Sequence[int], network: BindNetwork) -> SliceLoss:
        """Implements `Judge`."""
        known: dict[int, Tensor] = {}
        if self.sampler.rule.couples_slices:
            with torch.no_grad():
                known = self.run_corrections(i, slices, network())
        return lambda z: self.loss(i, z, network(), known.get(z)) if z in self.slab else None

    def loss(self, i: int, z: int, network: Network, correction: Tensor | None) -> Tensor:
        """Mean square error of the twins of slice ``z`` after step ``i``.

        Of images, because projections alone leave the frequencies between them to the adapter.
        Data consistency comes between x̂0′ and the loss, but the gradient passes it by: it would only
        remove from the gradient what the measurements fix anyway. ``correction`` is what it adds, where
        that is known.
        """
        local = self.local(z)
        x0_hat = self.denoise(i, local, network)
        if correction is None:
            correction = self.corrections(i, x0_hat.detach(), self.sampler.problem.y[local])
        error = (x0_hat + correction - self.rescan.target[local]) * self.rescan.known
        return error.square().sum() / self.rescan.known.sum() / self.num_copies

    def run_corrections(self, i: int, run: Sequence[int], network: Network) -> dict[int, Tensor]:
        """What data consistency adds to each slice of a ``run`` of neighbours, coupled among themselves.

        A run may lie on two workers: its estimates and measurements are brought together on every one.
        """
        k, problem = self.num_copies, self.sampler.problem
        x0_hat = problem.y.new_zeros(len(run) * k, *problem.operator.image_shape)
        y = problem.y.new_zeros(len(run) * k, *problem.operator.measurement_shape)
        for row, z in enumerate(run):
            if z in self.slab:
                there = slice(row * k, row * k + k)
                x0_hat[there] = self.denoise(i, self.local(z), network)
                y[there] = problem.y[self.local(z)]
        for tensor in (x0_hat, y):
            self.sampler.communicator.all_reduce(tensor)
        corrections = torch.split(self.corrections(i, x0_hat, y), k)
        return dict(zip(run, corrections, strict=True))

    def corrections(self, i: int, x0_hat: Tensor, y: Tensor) -> Tensor:
        t, problem = self.sampler.timesteps[i], self.sampler.problem.only(y)
        with torch.no_grad():
            # Only x0_hat matters to a rule's consistency.
            return self.judge(problem, Alone()).consistent(Denoised(t, t, x0_hat, x0_hat, x0_hat)) - x0_hat

    def denoise(self, i: int, local: slice, network: Network) -> Tensor:
        sampler = self.sampler
        x0_hat, _ = sampler.prior.denoise(sampler.x_t[local], sampler.timesteps[i], network)
        return x0_hat

    def local(self, z: int) -> slice:
        first = (z - self.slab.start) * self.num_copies
        return slice(first, first + self.num_copies)
