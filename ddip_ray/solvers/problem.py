"""One worker's share of a reconstruction: its slab of measurements and the operator."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddip_ray.io.acquisition import Acquisition
from ddip_ray.io.schema import Noise, ParallelCT
from ddip_ray.operators.geometry import ParallelBeamGeometry
from ddip_ray.operators.operator_norm import operator_norm
from ddip_ray.operators.parallel_beam import ParallelBeam
from ddip_ray.operators.protocol import LinearOperator, gram
from ddip_ray.solvers.slab import Slab


@dataclass(frozen=True)
class SlabProblem:
    """y = A x + n for the slices of a slab.

    ``y`` is (z, *measurement) and ``noise_std`` the standard deviation of one of its entries.
    Images are in the acquisition's normalised units (about 0…1) or, after `in_image_range`,
    in those of a prior.
    """

    operator: LinearOperator
    y: Tensor
    slab: Slab
    num_slices: int
    noise_std: float

    def in_image_range(self, low: float, high: float) -> SlabProblem:
        """The same problem for the image low + (high − low) x."""
        ones = torch.ones(1, *self.operator.image_shape, dtype=self.y.dtype, device=self.y.device)
        y = (high - low) * self.y + low * self.operator.forward(ones)
        return replace(self, y=y, noise_std=(high - low) * self.noise_std)

    def operator_norm(self) -> float:
        """‖A‖, from one slice: every worker finds the same number."""
        A = self.operator
        return operator_norm(
            lambda x: gram(A, x), (1, *A.image_shape), dtype=self.y.dtype, device=self.y.device
        )


def build_operator(
    acquisition: ParallelCT, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> ParallelBeam:
    """The forward operator of an acquisition; lengths in mm."""
    geometry = ParallelBeamGeometry(
        image_shape=acquisition.image_shape,
        angles=tuple(math.radians(a) for a in acquisition.angles_deg),
        num_detectors=acquisition.num_detectors,
        pixel_size=acquisition.voxel_mm[2],
        detector_spacing=acquisition.detector_spacing_mm,
        rotation_center=acquisition.rotation_center,
    )
    return ParallelBeam(geometry, device=device, dtype=dtype)


def load_problem(acquisition: Acquisition, slab: Slab, device: str | torch.device = "cpu") -> SlabProblem:
    """Read a slab of the store. Nothing outside the slab is touched."""
    metadata = acquisition.metadata
    scale = metadata.intensity.measurement_scale
    y = torch.from_numpy(acquisition.read_measurements(slab.start, slab.stop)).to(device) / scale
    return SlabProblem(
        operator=build_operator(metadata.acquisition, device),
        y=y,
        slab=slab,
        num_slices=acquisition.num_slices,
        noise_std=noise_std(metadata.noise) / scale,
    )


def noise_std(noise: Noise) -> float:
    """Standard deviation of a stored measurement; 0 for clean or unknown noise."""
    return getattr(noise, "std", None) or 0.0
