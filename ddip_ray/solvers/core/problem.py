"""One worker's share of a reconstruction: its slab of measurements and the operator."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddip_ray.numerics.inner_product import product
from ddip_ray.operators.base import LinearOperator
from ddip_ray.solvers.core.random import slab_noise
from ddip_ray.solvers.core.slab import Slab


@dataclass(frozen=True)
class SlabProblem:
    """y = A x + n for the slices of a slab.

    ``y`` is (z, *measurement) and ``noise_std`` the standard deviation of one of its entries.
    Images are in the acquisition's normalised units (about 0…1) or, after `in_image_range`,
    in those of a prior. ``earlier`` is a reconstruction (z, y, x) to start from, if there is one. ``phase``
    (z, y, x) is in the operator, and not in the image; ``typical`` is the operator of the volume's middle
    slice where slices differ.
    """

    operator: LinearOperator
    y: Tensor
    slab: Slab
    num_slices: int
    noise_std: float
    earlier: Tensor | None = None
    noise_is_estimated: bool = False
    phase: Tensor | None = None
    typical: LinearOperator | None = None

    def with_phase(self, x: Tensor) -> Tensor:
        """The image (z, y, x) that ``x`` stands for."""
        return x if self.phase is None else product(self.phase, x)

    def without_phase(self, x: Tensor) -> Tensor:
        """What stands for the image ``x: (z, y, x)``."""
        return x if self.phase is None else product(self.phase.conj(), x)

    def in_image_range(self, low: float, high: float) -> SlabProblem:
        """The same problem for the image low + (high − low) x."""
        ones = torch.ones_like(self.nothing())
        if self.typical is None:  # slices are alike
            ones = ones[:1]
        y = (high - low) * self.y + low * self.operator.forward(ones)
        earlier = None if self.earlier is None else low + (high - low) * self.earlier
        return replace(self, y=y, noise_std=(high - low) * self.noise_std, earlier=earlier)

    def slice(self, z: int) -> SlabProblem:
        """The problem of slice ``z`` of the slab (a global index) alone."""
        row = z - self.slab.start

        def own(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[row : row + 1]

        return replace(
            self,
            operator=self.operator.of_slices([row]),
            y=self.y[row : row + 1],
            slab=Slab(z, z + 1),
            earlier=own(self.earlier),
            phase=own(self.phase),
        )

    def only(self, y: Tensor) -> SlabProblem:
        """The same kind of problem for a volume of which ``y`` is all there is."""
        return replace(self, y=y, slab=Slab(0, len(y)), num_slices=len(y), earlier=None)

    def nothing(self) -> Tensor:
        """Images of zeros, (z, y, x)."""
        return self.y.new_zeros(len(self.y), *self.operator.image_shape)

    def unit_noise(self, seed: int, step: int, anchor_distance: int = 1) -> Tensor:
        """`slab_noise` for these images."""
        return slab_noise(
            self.slab,
            self.operator.image_shape,
            seed,
            step,
            anchor_distance=anchor_distance,
            is_complex=self.y.is_complex(),
        ).to(self.y.device)

    def operator_norm(self) -> float:
        """‖A‖ of one slice, the same on every worker."""
        return (self.typical or self.operator).norm()
