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

    Each is rotated another way and has no neighbours, so ``rule_for`` couples no slices, whatever the real
    one does. A slice's loss is that of ``num_drawn`` of them, after the data consistency of ``judging_rule``.
    """

    judges_runs = False

    def __init__(
        self, real: Sampler, rescan: Rescan, num_drawn: int, rule_for: RuleFor, judging_rule: RuleFor
    ) -> None:
        self.sampler, self.rescan = real.on(rescan.scan, rule_for), rescan
        self.judging_rule, self.num_drawn = judging_rule, num_drawn
        self.slab: Slab = real.problem.slab

    def slice_loss(self, i: int, slices: Sequence[int], network: BindNetwork, draw: int) -> SliceLoss:
        """Implements `Judge`."""

        def loss(z: int) -> Tensor | None:
            return self.loss(i, self.drawn(draw, z), network()) if z in self.slab else None

        return loss

    def loss(self, i: int, rows: list[int], network: Network) -> Tensor:
        """Mean square error after step ``i`` of twins of one slice.

        Of images, because projections alone leave the frequencies between them to the adapter.
        Data consistency comes between x̂0′ and the loss, but the gradient passes it by: it would only
        remove from the gradient what the measurements fix anyway.
        """
        x0_hat = self.sampler.estimate(i, rows, network)
        error = x0_hat + self.correction(i, rows, x0_hat.detach()) - self.rescan.target[rows]
        return squared_modulus(error * self.rescan.known).sum() / self.rescan.known.sum() / len(rows)

    @torch.no_grad()
    def correction(self, i: int, rows: list[int], x0_hat: Tensor) -> Tensor:
        """What data consistency adds to ``x0_hat``, from what it added to these twins in their last step."""
        t, problem = self.sampler.timesteps[i], self.sampler.problem
        rule = self.judging_rule(problem.only(problem.y[rows]), Alone())
        rule.added = self.added()[rows]
        # Only x0_hat matters to a rule's consistency.
        return rule.consistent(Denoised(t, t, x0_hat, x0_hat, x0_hat)) - x0_hat

    def added(self) -> Tensor:
        """What data consistency added to all the twins in their last step."""
        added = self.sampler.rule.added
        return torch.zeros_like(self.sampler.x_t) if added is None else added

    def drawn(self, draw: int, z: int) -> list[int]:
        """``num_drawn`` copies of slice ``z`` by chance: where they lie in the slab."""
        k = self.rescan.num_copies
        generator = torch.Generator().manual_seed(key(self.sampler.seed, draw, z))
        copies = sorted(torch.randperm(k, generator=generator)[: self.num_drawn].tolist())
        return [(z - self.slab.start) * k + copy for copy in copies]
