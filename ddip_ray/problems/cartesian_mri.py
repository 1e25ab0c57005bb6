"""The problem of Cartesian k-space."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.schema import SAMPLING_MASK
from ddip_ray.operators.mri.cartesian import Sense
from ddip_ray.operators.mri.sensitivity_maps import LEAST_CALIBRATION, calibration_size
from ddip_ray.problems.mri import KSpaceKind, SliceOfKSpace, load_mri
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


def load_cartesian_mri(acquisition: Acquisition, slab: Slab, device: str | torch.device) -> SlabProblem:
    """Return the problem of a slab of Cartesian k-space (`load_mri`).

    Args:
        acquisition: store of kind ``cartesian_mri``.
        slab: slices to read.
        device: device of k-space and operator.

    Raises:
        InputError: no sample was taken, or too few at the centre, or no coil has a signal.
    """
    return load_mri(acquisition, slab, device, KSpaceKind(SAMPLING_MASK, Sense, _centre))


def _centre(one: SliceOfKSpace) -> tuple[Tensor, int]:
    """Return the slice's k-space and the side of the square that is sampled in full at its centre."""
    mask, (path, z) = one.sampled, one.name
    if not bool(mask.any()):
        raise InputError(f"{path}: {SAMPLING_MASK} of slice {z} has no sample")
    size = calibration_size(mask)
    if size < LEAST_CALIBRATION:
        ny, nx = mask.shape
        raise InputError(
            f"{path}: {SAMPLING_MASK} of slice {z} misses the centre of k-space "
            f"(row {ny // 2}, column {nx // 2})",
            f"At least {LEAST_CALIBRATION} x {LEAST_CALIBRATION} samples there must have been taken",
        )
    return one.y, size
