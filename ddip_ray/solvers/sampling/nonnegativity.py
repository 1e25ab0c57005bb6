"""Non-negativity of real images as a constraint on the data consistency."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.solvers.core.data_consistency import Carried, DataConsistency

MULTIPLIER = "multiplier"  # the constraint's multiplier v ≥ 0, (z, y, x), among what is carried


class Nonnegativity:
    """A data consistency subject to x ≥ ``low``, in steps to timesteps up to ``below_t``.

    One gradient step on the dual is made at each timestep: with the constraint's multiplier v ≥ 0 the
    solution is the one without constraint from x0_hat + v, and v falls where that solution lies above
    ``low``. v is kept from timestep to timestep, because no noise comes in between. A data consistency that
    couples slices takes whole steps on a dual of its own; two together are at the limit of convergence, so
    half steps go with it.
    """

    def __init__(self, unconstrained: DataConsistency, low: float, below_t: int) -> None:
        self.unconstrained, self.low, self.below_t = unconstrained, low, below_t
        self.couples_slices = unconstrained.couples_slices

    def apply(self, x0_hat: Tensor, t: int, t_next: int, carried: Carried) -> tuple[Tensor, Carried]:
        """Implements `DataConsistency`."""
        if t_next > self.below_t:
            return self.unconstrained.apply(x0_hat, t, t_next, carried)
        v = carried.get(MULTIPLIER, torch.zeros_like(x0_hat))
        x0, carried = self.unconstrained.apply(x0_hat + v, t, t_next, carried)
        step = 0.5 if self.couples_slices else 1.0
        return x0, {**carried, MULTIPLIER: (v - step * (x0 - self.low)).clamp_min(0)}

    def ddim_step(
        self, x_t: Tensor, x0: Tensor, eps_hat: Tensor, noise: Tensor, *, t: int, t_next: int
    ) -> Tensor:
        """Implements `DataConsistency`: as without the constraint."""
        return self.unconstrained.ddim_step(x_t, x0, eps_hat, noise, t=t, t_next=t_next)
