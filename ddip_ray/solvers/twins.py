"""Twins: reconstructions of a rescan, judged by the images that were scanned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddip_ray.operators.inner_product import squared_modulus
from ddip_ray.solvers.communicator import Alone
from ddip_ray.solvers.learner import BindNetwork, SliceLoss
from ddip_ray.solvers.noise import key
from ddip_ray.solvers.rescan import Rescan
from ddip_ray.solvers.sampler import Denoised, RuleFor, Sampler
from ddip_ray.solvers.slab import Slab
from ddip_ray.solvers.steps import Network


class Twins:
    """Several smaller copies of each slice of the ``real`` reconstruction, on the same trajectory.

    A slice's loss is that of ``num_drawn`` of them, after the data consistency of ``judging_rule``.
    """

    def __init__(self, real: Sampler, rescan: Rescan, num_drawn: int, judging_rule: RuleFor) -> None:
        self.sampler, self.rescan, self.judging_rule = real.on(rescan.scan), rescan, judging_rule
        self.slab: Slab = real.problem.slab
        self.num_copies, self.num_drawn = rescan.scan.num_copies, num_drawn

    def slice_loss(self, i: int, slices: Sequence[int], network: BindNetwork, draw: int) -> SliceLoss:
        """Implements `Judge`."""
        known: dict[int, Tensor] = {}
        if self.sampler.rule.couples_slices:
            copies = {z: self.drawn(draw) for z in slices}  # neighbours are those of the same copy
            with torch.no_grad():
                known = self.run_corrections(i, copies, network())
        else:
            copies = {z: self.drawn(draw, z) for z in slices}

        def loss(z: int) -> Tensor | None:
            if z not in self.slab:
                return None
            return self.loss(i, self.rows(z, copies[z]), network(), known.get(z))

        return loss

    def loss(self, i: int, rows: list[int], network: Network, correction: Tensor | None) -> Tensor:
        """Mean square error after step ``i`` of twins of one slice.

        Of images, because projections alone leave the frequencies between them to the adapter.
        Data consistency comes between x̂0′ and the loss, but the gradient passes it by: it would only
        remove from the gradient what the measurements fix anyway. ``correction`` is what it adds, where
        that is known.
        """
        x0_hat = self.sampler.estimate(i, rows, network)
        if correction is None:
            y, added = self.sampler.problem.y[rows], self.added()[rows]
            correction = self.corrections(i, x0_hat.detach(), y, added)
        error = (x0_hat + correction - self.rescan.target[rows]) * self.rescan.known
        return squared_modulus(error).sum() / self.rescan.known.sum() / len(rows)

    def run_corrections(self, i: int, run: dict[int, list[int]], network: Network) -> dict[int, Tensor]:
        """What data consistency adds to copies of a ``run`` of neighbours, coupled among themselves.

        A run may lie on two workers: what it takes is brought together on every one.
        """
        k, problem = self.num_drawn, self.sampler.problem
        x0_hat = problem.y.new_zeros(len(run) * k, *problem.operator.image_shape)
        y = problem.y.new_zeros(len(run) * k, *problem.operator.measurement_shape)
        added = torch.zeros_like(x0_hat)
        for place, (z, copies) in enumerate(run.items()):
            if z in self.slab:
                there, rows = slice(place * k, place * k + k), self.rows(z, copies)
                x0_hat[there] = self.sampler.estimate(i, rows, network)
                y[there], added[there] = problem.y[rows], self.added()[rows]
        for tensor in (x0_hat, y, added):
            self.sampler.communicator.all_reduce(tensor)
        corrections = torch.split(self.corrections(i, x0_hat, y, added), k)
        return dict(zip(run, corrections, strict=True))

    def corrections(self, i: int, x0_hat: Tensor, y: Tensor, added: Tensor) -> Tensor:
        """What data consistency adds to ``x0_hat``, if it ``added`` that in the twins' last step."""
        t, problem = self.sampler.timesteps[i], self.sampler.problem.only(y, self.num_drawn)
        rule = self.judging_rule(problem, Alone())
        rule.added = added
        with torch.no_grad():
            # Only x0_hat matters to a rule's consistency.
            return rule.consistent(Denoised(t, t, x0_hat, x0_hat, x0_hat)) - x0_hat

    def added(self) -> Tensor:
        """What data consistency added to all the twins in their last step."""
        added = self.sampler.rule.added
        return torch.zeros_like(self.sampler.x_t) if added is None else added

    def drawn(self, *parts: int) -> list[int]:
        """Which copies: ``num_drawn`` of them, by chance keyed by ``parts``."""
        generator = torch.Generator().manual_seed(key(self.sampler.seed, *parts))
        return sorted(torch.randperm(self.num_copies, generator=generator)[: self.num_drawn].tolist())

    def rows(self, z: int, copies: list[int]) -> list[int]:
        """Where copies of slice ``z`` lie in the slab."""
        return [(z - self.slab.start) * self.num_copies + copy for copy in copies]
