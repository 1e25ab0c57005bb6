"""The published loss: the misfit to the measurements that made the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.config.settings import SCDSettings
from ddip_ray.numerics.finite_difference import difference
from ddip_ray.numerics.inner_product import slice_dot_real, squared_modulus
from ddip_ray.solvers.adapting.trainer import BindNetwork, SliceLoss
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.data_consistency import DataConsistencyFor
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.sampling.sampler import Sampler, SamplerState


@dataclass(frozen=True)
class MeasurementLoss:
    """‖A x0 − y‖² of the sampler's own slices, after a data consistency; an `AdaptationLoss`.

    The loss of SCD (Barbano et al., IEEE TMI 2025, 2308.14409) and of the published D3IP and DDIP (Chung and
    Ye, ECCV 2024, 2407.10641).

    Attributes:
        sampler: sampler of the reconstruction.
        settings: weight of total variation.
        data_consistency_for: data consistency between an estimate and its loss.
        state: where the reconstruction stands.
        i: step of the trajectory.
    """

    sampler: Sampler
    settings: SCDSettings
    data_consistency_for: DataConsistencyFor
    state: SamplerState
    i: int

    @property
    def needs_neighbours(self) -> bool:
        """Whether the data consistency couples slices."""
        return self.sampler.data_consistency.couples_slices

    def slice_loss(self, slices: Sequence[int], network: BindNetwork, draw: int) -> SliceLoss:
        """Implements `AdaptationLoss`."""
        slab = self.sampler.problem.slab
        if self.needs_neighbours:
            return self.block_loss(slices, network)

        def loss(z: int) -> Tensor | None:
            if z not in slab:
                return None
            x0_hat = self.sampler.estimate(self.state, self.i, [z - slab.start], network())
            return self.loss(x0_hat, self.sampler.problem.slice(z))

        return loss

    def block_loss(self, block: Sequence[int], network: BindNetwork) -> SliceLoss:
        """The loss of a block of neighbours together, wherever its slices lie.

        Every worker gets the block's estimates and measurements and the loss's gradient in the estimates; a
        slice's share is then the linear function of its own estimate that has this gradient.
        """
        slab, problem = self.sampler.problem.slab, self.sampler.problem
        own = {row: z - slab.start for row, z in enumerate(block) if z in slab}
        x0_hat = problem.y.new_zeros(len(block), *problem.operator.image_shape)
        y = problem.y.new_zeros(len(block), *problem.operator.measurement_shape)
        with torch.no_grad():
            for row, local in own.items():
                x0_hat[row] = self.sampler.estimate(self.state, self.i, [local], network())[0]
                y[row] = problem.y[local]
        for tensor in (x0_hat, y):
            self.sampler.communicator.all_reduce(tensor)
        value = self.loss(x0_hat.requires_grad_(), problem.with_data(y))
        (gradient,) = torch.autograd.grad(value, x0_hat)

        def loss(z: int) -> Tensor | None:
            if z not in slab:
                return None
            row = list(block).index(z)
            estimate = self.sampler.estimate(self.state, self.i, [own[row]], network())[0]
            change = slice_dot_real((estimate - x0_hat[row].detach())[None], gradient[row][None]).sum()
            return value.detach() + len(block) * change

        return loss

    def loss(self, x0_hat: Tensor, problem: SlabProblem) -> Tensor:
        """Mean square misfit of ``x0_hat: (z, y, x)`` made consistent with the data, in units of ‖A‖."""
        t = self.sampler.timesteps[self.i]
        x0, _ = self.data_consistency_for(problem, Alone()).apply(x0_hat, t, t, {})
        misfit = (problem.operator.forward(x0) - problem.y) / problem.operator_norm()
        loss = squared_modulus(misfit).sum() / x0.numel()
        if self.settings.tv_weight > 0:
            rough = sum(difference(x0, axis).abs().sum() for axis in (1, 2))
            weight = (self.sampler.high - self.sampler.low) * self.settings.tv_weight
            loss = loss + weight * rough / x0.numel()
        return loss
