"""A twin: the reconstruction of a rescan, which is judged by data it never saw."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.rescan import Rescan
from ddip_ray.solvers.slab import Slab
from ddip_ray.solvers.steps import Network, data_consistency


class Twin:
    """Follows the trajectory of the ``real`` reconstruction, on its own measurements."""

    def __init__(self, real: DDS, rescan: Rescan) -> None:
        self.dds, self.rescan = real.on(rescan.seen), rescan

    @property
    def slab(self) -> Slab:
        return self.rescan.seen.slab

    def loss(self, i: int, z: int, network: Network, cg_iterations: int) -> Tensor | None:
        """`Rescan.misfit` of slice ``z`` after step ``i`` with ``network``; None if another worker's.

        Data consistency comes between x̂0′ and the loss, but the gradient passes it by: it would only
        remove from the gradient what the measurements fix anyway.
        """
        if z not in self.slab:
            return None
        local = slice(z - self.slab.start, z - self.slab.start + 1)
        t, problem = self.dds.timesteps[i], self.dds.problem
        x0_hat, _ = self.dds.prior.denoise(self.dds.x_t[local], t, network)
        with torch.no_grad():
            x0 = data_consistency(
                problem.operator, problem.y[local], x0_hat, self.dds.gamma(t), cg_iterations
            )
            correction = x0 - x0_hat
        return self.rescan.misfit(x0_hat + correction, local).squeeze()
