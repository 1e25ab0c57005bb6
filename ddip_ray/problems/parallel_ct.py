"""The problem of a parallel-beam CT scan."""

from __future__ import annotations

import math

import torch

from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.schema import ParallelCT
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.problems.noise import is_estimated, noise_std
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


def load_parallel_ct(acquisition: Acquisition, slab: Slab, device: str | torch.device) -> SlabProblem:
    """Return the problem of a slab of a parallel-beam scan.

    Args:
        acquisition: store of kind ``parallel_ct``.
        slab: slices to read.
        device: device of sinograms and operator.
    """
    metadata = acquisition.metadata
    assert isinstance(metadata.acquisition, ParallelCT)
    scale = metadata.intensity.measurement_scale
    return SlabProblem(
        build_operator(metadata.acquisition, device),
        torch.from_numpy(acquisition.measurements(slab.start, slab.stop)).to(device) / scale,
        slab,
        acquisition.num_slices,
        noise_std(metadata.noise) / scale,
        noise_is_estimated=is_estimated(metadata.noise),
    )


def build_operator(
    acquisition: ParallelCT, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> ParallelBeam:
    """Return the forward operator of a scan as its store describes it.

    Args:
        acquisition: geometry of the scan; lengths are in mm.
        device: device of images and sinograms.
        dtype: float32 or float64.
    """
    geometry = ParallelBeamGeometry(
        image_shape=acquisition.image_shape,
        angles=tuple(math.radians(a) for a in acquisition.angles_deg),
        num_detectors=acquisition.num_detectors,
        pixel_size=acquisition.voxel_mm[2],
        detector_spacing=acquisition.detector_spacing_mm,
        rotation_center=acquisition.rotation_center,
    )
    return ParallelBeam(geometry, device=device, dtype=dtype)
