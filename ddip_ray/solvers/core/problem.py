"""The inverse problem of one worker: measurements of its slab and their operator."""

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

    Images are in the acquisition's normalised units (about 0…1) or, after `in_image_range`, in those of a
    prior.

    Attributes:
        operator: A, for the slices of the slab.
        y: measurements, (z, *measurement).
        slab: slices of the volume that this worker holds.
        num_slices: slices of the whole volume.
        noise_std: standard deviation of one entry of ``y``; for complex ones, of each part.
        initial_image: an earlier reconstruction to start from, (z, y, x); None if there is none.
        noise_is_estimated: whether ``noise_std`` is an estimate from the measurements.
        phase: phase that the operator holds and images lack, (z, y, x), of modulus 1; None if there is none.
        central_operator: operator of the volume's middle slice; None if all slices share one.
    """

    operator: LinearOperator
    y: Tensor
    slab: Slab
    num_slices: int
    noise_std: float
    initial_image: Tensor | None = None
    noise_is_estimated: bool = False
    phase: Tensor | None = None
    central_operator: LinearOperator | None = None

    def with_phase(self, x: Tensor) -> Tensor:
        """``x: (z, y, x)`` with the phase that the operator holds."""
        return x if self.phase is None else product(self.phase, x)

    def without_phase(self, x: Tensor) -> Tensor:
        """``x: (z, y, x)`` without that phase."""
        return x if self.phase is None else product(self.phase.conj(), x)

    def in_image_range(self, low: float, high: float) -> SlabProblem:
        """The same problem for the image low + (high − low) x."""
        ones = torch.ones_like(self.zeros())
        if self.central_operator is None:  # slices are alike
            ones = ones[:1]
        y = (high - low) * self.y + low * self.operator.forward(ones)
        initial = None if self.initial_image is None else low + (high - low) * self.initial_image
        return replace(self, y=y, noise_std=(high - low) * self.noise_std, initial_image=initial)

    def slice(self, z: int) -> SlabProblem:
        """The problem of one slice of the slab; ``z`` is its index in the volume."""
        row = z - self.slab.start

        def own(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[row : row + 1]

        return replace(
            self,
            operator=self.operator.of_slices([row]),
            y=self.y[row : row + 1],
            slab=Slab(z, z + 1),
            initial_image=own(self.initial_image),
            phase=own(self.phase),
        )

    def with_data(self, y: Tensor) -> SlabProblem:
        """The same kind of problem for a volume that ``y``, (z, *measurement), was measured of."""
        return replace(self, y=y, slab=Slab(0, len(y)), num_slices=len(y), initial_image=None)

    def zeros(self) -> Tensor:
        """Images of zeros, (z, y, x)."""
        return self.y.new_zeros(len(self.y), *self.operator.image_shape)

    def unit_noise(self, seed: int, step: int, anchor_distance: int = 1) -> Tensor:
        """Unit normal noise shaped like these images (`slab_noise`)."""
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
        return (self.central_operator or self.operator).norm()
