"""The problem of k-space along a trajectory."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.schema import TRAJECTORY
from ddip_ray.operators.mri.kspace_centre import cartesian_centre, centre_size
from ddip_ray.operators.mri.noncartesian import NonCartesianSense
from ddip_ray.operators.mri.nufft import nufft_unavailable
from ddip_ray.operators.mri.sensitivity_maps import LEAST_CALIBRATION
from ddip_ray.problems.mri import KSpaceKind, SliceOfKSpace, load_mri
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


def load_noncartesian_mri(acquisition: Acquisition, slab: Slab, device: str | torch.device) -> SlabProblem:
    """Return the problem of a slab of k-space along a trajectory (`load_mri`).

    Args:
        acquisition: store of kind ``noncartesian_mri``.
        slab: slices to read.
        device: device of k-space and operator.

    Raises:
        InputError: finufft is not installed, or too few samples lie at the centre, or no coil has a signal.
    """
    if reason := nufft_unavailable():
        raise InputError(f"{acquisition.path}: {reason}")
    return load_mri(acquisition, slab, device, KSpaceKind(TRAJECTORY, NonCartesianSense, _centre))


def _centre(one: SliceOfKSpace) -> tuple[Tensor, int]:
    """Return the centre as Cartesian samples (coil, ky, kx), and its side."""
    path, z = one.name
    size = centre_size(one.sampled, one.image_shape)
    if size < LEAST_CALIBRATION:
        raise InputError(
            f"{path}: {TRAJECTORY} of slice {z} fills {size} x {size} samples at the centre of k-space",
            f"At least {LEAST_CALIBRATION} x {LEAST_CALIBRATION} are needed: are there too few readouts, or "
            "is it not in cycles per pixel?",
        )
    return cartesian_centre(one.sampled, one.y, one.image_shape, size), size
