"""Twins: reconstructions of a rescan, judged by the images that were scanned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.config.settings import AdaptationSettings
from ddip_ray.numerics.inner_product import squared_modulus
from ddip_ray.solvers.adapting.rescan import Rescan, check_rescannable, rescan
from ddip_ray.solvers.adapting.trainer import BindNetwork, SliceLoss
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.random import key
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.steps import Network
from ddip_ray.solvers.sampling.sampler import Denoised, RuleFor, Sampler

_RESCAN = 0x75C  # keys the rescans' noise apart from the image noise


@dataclass(frozen=True)
class TwinPlan:
    """How many twins there will be, how they are reconstructed and how judged."""

    downsampling: int
    num_copies: int  # of each slice, as many as it takes for enough to learn from
    num_drawn: int  # of these, for one loss of the slice
    rule_for: RuleFor
    judging_rule: RuleFor

    @classmethod
    def of(
        cls,
        settings: AdaptationSettings,
        real: Sampler,
        *,
        num_teaching: int,
        num_drawn: int,
        rule_for: RuleFor,
        judging_rule: RuleFor,
    ) -> TwinPlan:
        """For a learner that ``num_teaching`` slices teach, ``num_drawn`` at a time.

        Raises:
            InputError: a scan that is too small for ``settings.downsampling``.
        """
        check_rescannable(real.problem, settings.downsampling)
        num_copies = min(settings.num_copies, max(1, settings.target_copies // num_teaching))
        wanted = math.ceil(settings.num_adapt_slices / num_drawn)
        return cls(settings.downsampling, num_copies, min(wanted, num_copies), rule_for, judging_rule)

    @torch.no_grad()
    def twins(self, x0: Tensor, real: Sampler) -> Twins:
        """Of ``x0: (z, y, x)``, a reconstruction of what ``real`` reconstructs."""
        seed, lowest = key(real.seed, _RESCAN), real.low if real.is_constrained else None
        again = rescan(real.problem, x0, self.downsampling, self.num_copies, seed, lowest=lowest)
        return Twins(real, again, self)


class Twins:
    """Several smaller copies of each slice of the ``real`` reconstruction, on the same trajectory.

    Each is rotated another way and has no neighbours, so the plan's rules couple no slices, whatever the
    real one does. A slice's loss is that of some of them, after the data consistency of ``judging_rule``.
    """

    judges_runs = False

    def __init__(self, real: Sampler, rescan: Rescan, plan: TwinPlan) -> None:
        self.sampler, self.rescan, self.plan = real.on(rescan.scan, plan.rule_for), rescan, plan
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
        rule = self.plan.judging_rule(problem.only(problem.y[rows]), Alone())
        rule.added = self.added()[rows]
        return rule.consistent(Denoised.alone(t, x0_hat)) - x0_hat

    def added(self) -> Tensor:
        """What data consistency added to all the twins in their last step."""
        added = self.sampler.rule.added
        return torch.zeros_like(self.sampler.x_t) if added is None else added

    def drawn(self, draw: int, z: int) -> list[int]:
        """Some copies of slice ``z`` by chance: where they lie in the slab."""
        k = self.rescan.num_copies
        generator = torch.Generator().manual_seed(key(self.sampler.seed, draw, z))
        copies = sorted(torch.randperm(k, generator=generator)[: self.plan.num_drawn].tolist())
        return [(z - self.slab.start) * k + copy for copy in copies]
