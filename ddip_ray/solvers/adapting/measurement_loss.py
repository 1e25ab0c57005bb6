"""The measurements as judge of an adapter, as published."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddip_ray.config.settings import SCDSettings
from ddip_ray.numerics.finite_difference import difference
from ddip_ray.numerics.inner_product import slice_dot_real, squared_modulus
from ddip_ray.solvers.adapting.trainer import BindNetwork, SliceLoss
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.sampling.sampler import Denoised, RuleFor, Sampler


class Measured:
    """‖A x0 − y‖² of the ``sampler``'s own slices, after the data consistency of ``judging_rule``."""

    def __init__(self, sampler: Sampler, settings: SCDSettings, judging_rule: RuleFor) -> None:
        self.sampler, self.settings, self.judging_rule = sampler, settings, judging_rule

    @property
    def judges_runs(self) -> bool:
        return self.sampler.rule.couples_slices

    def slice_loss(self, i: int, slices: Sequence[int], network: BindNetwork, draw: int) -> SliceLoss:
        """Implements `Judge`."""
        slab = self.sampler.problem.slab
        if self.judges_runs:
            return self.run_loss(i, slices, network)

        def loss(z: int) -> Tensor | None:
            if z not in slab:
                return None
            own = [z - slab.start]
            return self.loss(i, self.sampler.estimate(i, own, network()), self.sampler.problem.slice(z))

        return loss

    def run_loss(self, i: int, run: Sequence[int], network: BindNetwork) -> SliceLoss:
        """A run of neighbours is judged as one, wherever its slices lie.

        Every worker gets the run's estimates and measurements and the loss's gradient in the estimates; a
        slice's share is then the linear function of its own estimate that has this gradient.
        """
        slab, problem = self.sampler.problem.slab, self.sampler.problem
        own = {row: z - slab.start for row, z in enumerate(run) if z in slab}
        x0_hat = problem.y.new_zeros(len(run), *problem.operator.image_shape)
        y = problem.y.new_zeros(len(run), *problem.operator.measurement_shape)
        with torch.no_grad():
            for row, local in own.items():
                x0_hat[row], y[row] = self.sampler.estimate(i, [local], network())[0], problem.y[local]
        for tensor in (x0_hat, y):
            self.sampler.communicator.all_reduce(tensor)
        value = self.loss(i, x0_hat.requires_grad_(), problem.only(y))
        (gradient,) = torch.autograd.grad(value, x0_hat)

        def loss(z: int) -> Tensor | None:
            if z not in slab:
                return None
            row = list(run).index(z)
            estimate = self.sampler.estimate(i, [own[row]], network())[0]
            moving = slice_dot_real((estimate - x0_hat[row].detach())[None], gradient[row][None]).sum()
            return value.detach() + len(run) * moving

        return loss

    def loss(self, i: int, x0_hat: Tensor, problem: SlabProblem) -> Tensor:
        """Mean square misfit of ``x0_hat: (z, y, x)`` made consistent with the data, in units of ‖A‖."""
        t = self.sampler.timesteps[i]
        x0 = self.judging_rule(problem, Alone()).consistent(Denoised.alone(t, x0_hat))
        misfit = (problem.operator.forward(x0) - problem.y) / problem.operator_norm()
        loss = squared_modulus(misfit).sum() / x0.numel()
        if self.settings.tv_weight > 0:
            rough = sum(difference(x0, axis).abs().sum() for axis in (1, 2))
            weight = (self.sampler.high - self.sampler.low) * self.settings.tv_weight
            loss = loss + weight * rough / x0.numel()
        return loss
