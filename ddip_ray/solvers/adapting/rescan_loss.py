"""The rescan loss: the adapted network reconstructs simulated rescans of which the image is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.config.settings import AdaptationSettings
from ddip_ray.numerics.inner_product import squared_modulus
from ddip_ray.prior.denoiser import Network
from ddip_ray.solvers.adapting.rescan import Rescan, check_rescannable, rescan
from ddip_ray.solvers.adapting.trainer import BindNetwork, SliceLoss, Trainer
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.data_consistency import LAST_CORRECTION, DataConsistencyFor
from ddip_ray.solvers.core.random import key
from ddip_ray.solvers.sampling.sampler import Sampler, SamplerState

_RESCAN = 0x75C  # keys the rescans' noise apart from the image noise


@dataclass(frozen=True)
class RescanPlan:
    """How many rescan copies there will be, and how they are reconstructed.

    Attributes:
        downsampling: factor by which copies are smaller.
        num_copies: copies of each slice, enough of them to train one adapter.
        num_drawn: copies of a slice that are drawn for each of its losses.
        data_consistency_for: data consistency of the copies' trajectory; it couples no slices, because copies
            have no neighbours.
        loss_data_consistency_for: data consistency between an estimate and its loss.
    """

    downsampling: int
    num_copies: int
    num_drawn: int
    data_consistency_for: DataConsistencyFor
    loss_data_consistency_for: DataConsistencyFor

    @classmethod
    def for_trainer(
        cls,
        settings: AdaptationSettings,
        sampler: Sampler,
        trainer: Trainer,
        *,
        data_consistency_for: DataConsistencyFor,
        loss_data_consistency_for: DataConsistencyFor,
    ) -> RescanPlan:
        """The plan that gives a trainer enough copies.

        Args:
            settings: how many copies are wanted.
            sampler: sampler of the real reconstruction.
            trainer: trainer of the adapter.
            data_consistency_for: data consistency of the copies' trajectory.
            loss_data_consistency_for: data consistency between an estimate and its loss.

        Raises:
            InputError: the scan is too small for ``settings.downsampling``.
        """
        check_rescannable(sampler.problem, settings.downsampling)
        enough = max(1, settings.target_copies // trainer.num_training_slices)
        num_copies = min(settings.num_copies, enough)
        num_drawn = min(math.ceil(settings.num_adapt_slices / trainer.num_drawn), num_copies)
        return cls(
            settings.downsampling, num_copies, num_drawn, data_consistency_for, loss_data_consistency_for
        )

    @torch.no_grad()
    def rescan(self, x0: Tensor, sampler: Sampler) -> RescanCopies:
        """Copies of ``x0: (z, y, x)``, the first result of ``sampler``, scanned again."""
        lowest = sampler.low if sampler.is_constrained else None
        scanned = rescan(
            sampler.problem,
            x0,
            self.downsampling,
            self.num_copies,
            key(sampler.seed, _RESCAN),
            lowest=lowest,
        )
        return RescanCopies(sampler, scanned, self)


class RescanCopies:
    """Smaller, rotated copies of each slice of a reconstruction, to be reconstructed on the same trajectory.

    Attributes:
        sampler: sampler of the copies, (z · copies, y, x); those of a slice lie side by side.
        slab: slices that they are copies of.
    """

    def __init__(self, sampler: Sampler, rescan: Rescan, plan: RescanPlan) -> None:
        self.sampler = sampler.for_problem(rescan.scan, data_consistency_for=plan.data_consistency_for)
        self.rescan, self.plan, self.slab = rescan, plan, sampler.problem.slab

    def loss(self, state: SamplerState, i: int) -> RescanLoss:
        """The loss of networks at step ``i`` of the copies' trajectory, which stands in ``state``."""
        return RescanLoss(self, state, i)


@dataclass(frozen=True)
class RescanLoss:
    """The mean square error of some rescan copies of a slice after one step; an `AdaptationLoss`.

    It is an error of images, because projections alone leave the frequencies between them to the adapter.
    Data consistency comes between x0_hat and the error, but the gradient passes it by: it would only remove
    from the gradient what the measurements fix anyway.
    """

    copies: RescanCopies
    state: SamplerState
    i: int

    needs_neighbours = False

    def slice_loss(self, slices: Sequence[int], network: BindNetwork, draw: int) -> SliceLoss:
        """Implements `AdaptationLoss`."""

        def loss(z: int) -> Tensor | None:
            return self.loss(self.drawn(draw, z), network()) if z in self.copies.slab else None

        return loss

    def loss(self, rows: list[int], network: Network) -> Tensor:
        """Mean square error of the copies ``rows``, within the field of view."""
        rescan = self.copies.rescan
        x0_hat = self.copies.sampler.estimate(self.state, self.i, rows, network)
        error = x0_hat + self.correction(rows, x0_hat.detach()) - rescan.target[rows]
        return squared_modulus(error * rescan.field_of_view).sum() / rescan.field_of_view.sum() / len(rows)

    @torch.no_grad()
    def correction(self, rows: list[int], x0_hat: Tensor) -> Tensor:
        """The change that data consistency makes to ``x0_hat``, found from that of the copies' last step."""
        sampler, t = self.copies.sampler, self.copies.sampler.timesteps[self.i]
        problem = sampler.problem.with_data(sampler.problem.y[rows])
        data_consistency = self.copies.plan.loss_data_consistency_for(problem, Alone())
        last = self.state.carried.get(LAST_CORRECTION, torch.zeros_like(self.state.x_t))
        x0, _ = data_consistency.apply(x0_hat, t, t, {LAST_CORRECTION: last[rows]})
        return x0 - x0_hat

    def drawn(self, draw: int, z: int) -> list[int]:
        """Rows of the copies of slice ``z`` that the key ``draw`` draws."""
        copies, num_copies = self.copies, self.copies.rescan.num_copies
        generator = torch.Generator().manual_seed(key(copies.sampler.seed, draw, z))
        chosen = sorted(torch.randperm(num_copies, generator=generator)[: copies.plan.num_drawn].tolist())
        return [(z - copies.slab.start) * num_copies + copy for copy in chosen]
