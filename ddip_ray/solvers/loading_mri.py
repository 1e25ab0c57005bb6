"""The problem that a slab of k-space poses: coils, and an image freed of its phase."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.io.acquisition import Acquisition
from ddip_ray.io.schema import SAMPLING_MASK, SENSITIVITY_MAPS
from ddip_ray.operators.coil_sensitivity import calibration_size, low_resolution, low_resolution_maps
from ddip_ray.operators.sense import Sense
from ddip_ray.prior.threads import one_thread
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.slab import Slab

_LEAST_CALIBRATION = 4  # samples along each side


def load_mri(acquisition: Acquisition, slab: Slab, y: Tensor, noise_std: float) -> SlabProblem:
    """The problem of ``y: (z, coil, ky, kx)``, for images without the phase that k-space's centre shows.

    A prior of real images with a dark background then meets what it knows: a real part that is
    positive, an imaginary part near 0. Sensitivity maps that are missing are estimated from the centre, too.

    Raises:
        InputError: a mask without samples, without a centre, or coils that saw nothing.
    """
    read = slab.start, slab.stop
    mask = torch.from_numpy(acquisition.read(SAMPLING_MASK, *read)).to(y.device).float()
    _check_mask(acquisition.path, mask, slab)
    size = calibration_size(mask)
    with one_thread():  # and slice by slice: what is found depends on the slice alone, in every bit
        if SENSITIVITY_MAPS in acquisition.names:
            maps = torch.from_numpy(acquisition.read(SENSITIVITY_MAPS, *read)).to(y.device)
        else:
            maps = low_resolution_maps(y, size)
        _check_coils(acquisition.path, maps, slab)
        maps = torch.stack([_normalised(own) for own in maps])
        phase = torch.stack([_phase(own, samples, size) for own, samples in zip(maps, y, strict=True)])
        operator = Sense(mask, torch.stack([own * p for own, p in zip(maps, phase, strict=True)]))
    # The maps' squares add up to 1: nothing becomes larger than it was, and the centre stays what it is.
    return SlabProblem(operator, y, slab, acquisition.num_slices, noise_std, norm=1.0, phase=phase)


def _normalised(maps: Tensor) -> Tensor:
    """Maps (coil, y, x) whose squares add up to 1 wherever a coil sees anything."""
    total = maps.abs().square().sum(0).sqrt()
    return maps / torch.where(total > 0, total, 1.0)


def _phase(maps: Tensor, y: Tensor, size: int) -> Tensor:
    """exp(iφ) of the slice's coarse image, (y, x)."""
    image = (maps.conj() * low_resolution(y[None], size)[0]).sum(0)
    return torch.polar(torch.ones_like(image.real), image.angle())


def _check_coils(path: str, maps: Tensor, slab: Slab) -> None:
    if (blind := maps.abs().flatten(1).amax(1) == 0).any():
        z = slab.start + int(blind.nonzero()[0])
        raise InputError(f"{path}: the coils of slice {z} see nothing: {SENSITIVITY_MAPS} or k-space is 0")


def _check_mask(path: str, mask: Tensor, slab: Slab) -> None:
    if (empty := mask.flatten(1).sum(1) == 0).any():
        z = slab.start + int(empty.nonzero()[0])
        raise InputError(f"{path}: {SAMPLING_MASK} of slice {z} has no sample")
    if calibration_size(mask) < _LEAST_CALIBRATION:
        ny, nx = mask.shape[1:]
        raise InputError(
            f"{path}: {SAMPLING_MASK} misses the centre of k-space (row {ny // 2}, column {nx // 2})",
            f"At least {_LEAST_CALIBRATION} x {_LEAST_CALIBRATION} samples there must have been taken, "
            "in every slice",
        )
