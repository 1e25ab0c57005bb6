"""Twins: reconstructions of a rescan, judged by the images that were scanned."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.rescan import Rescan
from ddip_ray.solvers.slab import Slab
from ddip_ray.solvers.steps import Network, data_consistency


class Twins:
    """Several smaller copies of each slice of the ``real`` reconstruction, on the same trajectory."""

    def __init__(self, real: DDS, rescan: Rescan) -> None:
        self.dds, self.rescan = real.on(rescan.scan), rescan
        self.slab: Slab = real.problem.slab

    def loss(self, i: int, z: int, network: Network, cg_iterations: int) -> Tensor | None:
        """Mean square error of the twins of slice ``z`` after step ``i``; None if another worker's.

        Of images, because projections alone leave the frequencies between them to the adapter.
        Data consistency comes between x̂0′ and the loss, but the gradient passes it by: it would only
        remove from the gradient what the measurements fix anyway.
        """
        if z not in self.slab:
            return None
        num_copies, problem = self.rescan.num_copies, self.dds.problem
        first = (z - self.slab.start) * num_copies
        local = slice(first, first + num_copies)
        t = self.dds.timesteps[i]
        x0_hat, _ = self.dds.prior.denoise(self.dds.x_t[local], t, network)
        with torch.no_grad():
            x0_dc = data_consistency(
                problem.operator, problem.y[local], x0_hat, self.dds.gamma(t), cg_iterations
            )
            correction = x0_dc - x0_hat
        error = (x0_hat + correction - self.rescan.target[local]) * self.rescan.known
        return error.square().sum() / self.rescan.known.sum() / num_copies
