"""Operations that couple slices across slabs: differences along z, 3D gradients, norms of whole volumes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.numerics.conjugate_gradient import Blocks, squared_norms
from ddip_ray.numerics.finite_difference import difference, difference_adjoint
from ddip_ray.numerics.inner_product import slice_dot
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


@dataclass(frozen=True)
class SliceCoupling:
    """D_z, the gradient, their adjoints and norms for a volume that lies in slabs on several workers.

    The volume has an open boundary: there is no difference from its last slice to its first (the
    published code wraps around there).
    """

    communicator: Communicator
    slab: Slab
    num_slices: int

    @classmethod
    def of(cls, problem: SlabProblem, communicator: Communicator) -> SliceCoupling:
        """The coupling of a problem's slices."""
        return cls(communicator, problem.slab, problem.num_slices)

    def difference(self, x: Tensor) -> Tensor:
        """D_z x of the slab's slices, x[z + 1] − x[z]; zero at the volume's last slice. (z, y, x) both."""
        _, after = self.communicator.exchange_halo(x)
        if after is None:
            after = x[-1]  # the volume's end: a difference of zero
        return torch.cat([x[1:], after[None]]) - x

    def difference_adjoint(self, d: Tensor) -> Tensor:
        """D_zᵀ d: d[z − 1] − d[z]. The entry at the volume's last slice belongs to no difference."""
        if self.slab.stop == self.num_slices:
            d = torch.cat([d[:-1], torch.zeros_like(d[-1:])])
        before, _ = self.communicator.exchange_halo(d)
        if before is None:
            before = torch.zeros_like(d[0])
        return torch.cat([before[None], d[:-1]]) - d

    def gradient(self, x: Tensor) -> list[Tensor]:
        """Differences along z, y and x, each (z, y, x) with a zero at the end of its axis."""
        return [self.difference(x), *(_filled(difference(x, axis), axis) for axis in (1, 2))]

    def gradient_adjoint(self, d: list[Tensor]) -> Tensor:
        """The adjoint of `gradient`, (z, y, x)."""
        inner = [d[axis].narrow(axis, 0, d[axis].shape[axis] - 1) for axis in (1, 2)]
        along_z = self.difference_adjoint(d[0])
        return along_z + difference_adjoint(inner[0], 1) + difference_adjoint(inner[1], 2)

    def norms(self, blocks: Blocks) -> Tensor:
        """Σ ‖block‖² over the whole volume, (1,)."""
        return self.total(squared_norms(blocks))

    def total(self, own: Tensor) -> Tensor:
        """The sum over the whole volume, (1,), of one number for each slice, (z,); in slice order."""
        every = torch.zeros(self.num_slices, dtype=own.dtype, device=own.device)
        every[self.slab.start : self.slab.stop] = own
        self.communicator.all_reduce(every)
        return slice_dot(every[None], torch.ones_like(every)[None])


def _filled(d: Tensor, axis: int) -> Tensor:
    return torch.cat([d, torch.zeros_like(d.narrow(axis, 0, 1))], dim=axis)
