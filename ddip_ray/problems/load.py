"""From a slab of a store to the problem that it poses."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.io.stores.schema import ParallelCT
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.problems.mri import load_mri
from ddip_ray.problems.noise import is_estimated, noise_std
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


def load_problem(
    acquisition: Acquisition,
    slab: Slab,
    device: str | torch.device = "cpu",
    start_from: str | None = None,
) -> SlabProblem:
    """Read a slab of the store, and of the result ``start_from``. Nothing outside the slab is touched.

    Raises:
        InputError: ``start_from`` is not a result, or of another shape or unit; data that cannot be used.
    """
    metadata = acquisition.metadata
    if not isinstance(metadata.acquisition, ParallelCT):
        problem = load_mri(acquisition, slab, device)
    else:
        scale = metadata.intensity.measurement_scale
        y = torch.from_numpy(acquisition.measurements(slab.start, slab.stop)).to(device) / scale
        operator, std = build_operator(metadata.acquisition, device), noise_std(metadata.noise) / scale
        estimated = is_estimated(metadata.noise)
        problem = SlabProblem(operator, y, slab, acquisition.num_slices, std, noise_is_estimated=estimated)
    if start_from is None:
        return problem
    earlier = _earlier(start_from, acquisition, slab).to(device)
    return replace(problem, earlier=problem.without_phase(earlier))


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


def _earlier(path: str, acquisition: Acquisition, slab: Slab) -> Tensor:
    result, intensity = open_result(path), acquisition.metadata.intensity
    expected = (acquisition.num_slices, *acquisition.metadata.acquisition.image_shape)
    if result.shape != expected or result.metadata.unit != intensity.unit:
        raise InputError(
            f"start_from {path}: shape {result.shape} (z, y, x) in {result.metadata.unit or 'no unit'}, "
            f"expected {expected} in {intensity.unit or 'no unit'}"
        )
    return torch.from_numpy((result.read(slab.start, slab.stop) - intensity.offset) / intensity.scale)
