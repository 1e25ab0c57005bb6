"""The problem that a slab of k-space poses: coils, and an image freed of its phase."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.schema import MEASUREMENTS, SAMPLING_MASK, SENSITIVITY_MAPS, TRAJECTORY, CartesianMRI
from ddip_ray.numerics.threads import one_thread
from ddip_ray.operators.mri.cartesian import Sense
from ddip_ray.operators.mri.kspace_centre import cartesian_centre, centre_size
from ddip_ray.operators.mri.noncartesian import NonCartesianSense
from ddip_ray.operators.mri.nufft import nufft_unavailable
from ddip_ray.operators.mri.sensitivity_maps import (
    LEAST_CALIBRATION,
    calibration_size,
    low_resolution,
    low_resolution_maps,
)
from ddip_ray.problems.noise import is_estimated, noise_std
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


def load_mri(acquisition: Acquisition, slab: Slab, device: str | torch.device) -> SlabProblem:
    """The problem of a slab, for images without the phase that k-space's centre shows.

    A prior of real images with a dark background then meets what it knows: a real part that is
    positive, an imaginary part near 0. Sensitivity maps that are missing are estimated from the centre, too.

    Raises:
        InputError: no sample taken, or none at the centre, or coils that saw nothing.
    """
    metadata, num_slices = acquisition.metadata, acquisition.num_slices
    is_cartesian = isinstance(metadata.acquisition, CartesianMRI)
    if not is_cartesian and (hindrance := nufft_unavailable()):
        raise InputError(f"{acquisition.path}: {hindrance}")
    scale = metadata.intensity.measurement_scale
    own = _read(acquisition, slab, device)
    middle = _read(acquisition, Slab(num_slices // 2, num_slices // 2 + 1), device)
    operator = Sense if is_cartesian else NonCartesianSense
    return SlabProblem(
        operator(own.taken, own.maps),
        own.y,
        slab,
        num_slices,
        noise_std(metadata.noise) / scale,
        noise_is_estimated=is_estimated(metadata.noise),
        phase=own.phase,
        typical=operator(middle.taken[0], middle.maps[0]),
    )


class _Read(NamedTuple):
    """k-space, where it was taken: mask (z, ky, kx) or trajectory (z, readout, sample, 2); maps with the
    image's phase in them (z, coil, y, x), and that phase."""

    y: Tensor
    taken: Tensor
    maps: Tensor
    phase: Tensor


def _read(acquisition: Acquisition, slab: Slab, device: str | torch.device) -> _Read:
    read, path, geometry = (slab.start, slab.stop), acquisition.path, acquisition.metadata.acquisition

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(acquisition.read(name, *read)).to(device)

    y = tensor(MEASUREMENTS) / acquisition.metadata.intensity.measurement_scale
    is_cartesian = isinstance(geometry, CartesianMRI)
    taken = tensor(SAMPLING_MASK).float() if is_cartesian else tensor(TRAJECTORY)
    stored = tensor(SENSITIVITY_MAPS) if SENSITIVITY_MAPS in acquisition.names else None
    maps, phases = [], []
    with one_thread():  # and slice by slice: what is found depends on the slice alone, in every bit
        for row, z in enumerate(range(*read)):
            if is_cartesian:
                centre, size = y[row], _calibration(path, taken[row], z)
            else:
                centre, size = _centre(path, y[row], taken[row], geometry.image_shape, z)
            found = low_resolution_maps(centre, size) if stored is None else stored[row]
            total = found.abs().square().sum(0).sqrt()
            if not bool(total.any()):
                raise InputError(f"{path}: the coils of slice {z} see nothing")
            found = found / torch.where(total > 0, total, 1.0)
            image = (found.conj() * low_resolution(centre, size)).sum(0)
            phases.append(torch.polar(torch.ones_like(total), image.angle()))
            maps.append(found * phases[-1])
    return _Read(y, taken, torch.stack(maps), torch.stack(phases))


def _calibration(path: str, mask: Tensor, z: int) -> int:
    """Side of the square that is sampled in full at the centre."""
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
    return size


def _centre(
    path: str, y: Tensor, trajectory: Tensor, image_shape: tuple[int, int], z: int
) -> tuple[Tensor, int]:
    """The centre as Cartesian samples (coil, ky, kx), and its side."""
    size = centre_size(trajectory, image_shape)
    if size < LEAST_CALIBRATION:
        raise InputError(
            f"{path}: {TRAJECTORY} of slice {z} fills {size} x {size} samples at the centre of k-space",
            f"At least {LEAST_CALIBRATION} x {LEAST_CALIBRATION} are needed: are there too few readouts, or "
            "is it not in cycles per pixel?",
        )
    return cartesian_centre(trajectory, y, image_shape, size), size
