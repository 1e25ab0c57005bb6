"""Coarse images and coil sensitivities from the fully sampled centre of k-space."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.operators.mri.fourier import fourier_adjoint

LEAST_CALIBRATION = 4  # samples along each side of the centre that phase and coils can be estimated from


def calibration_size(sampling_mask: Tensor) -> int:
    """Return the side of the largest square around the centre that is sampled in full, 0 if there is none.

    ``sampling_mask`` (ky, kx) is 1 where a sample is taken and 0 elsewhere.
    """
    size = 0
    while size < min(sampling_mask.shape) and bool(central_square(sampling_mask, size + 1).all()):
        size += 1
    return size


def central_square(x: Tensor, size: int) -> Tensor:
    """Return a view of the ``size`` x ``size`` samples around the centre of ``x: (..., ky, kx)``."""
    ny, nx = x.shape[-2:]
    top, left = ny // 2 - size // 2, nx // 2 - size // 2
    return x[..., top : top + size, left : left + size]


def low_resolution(y: Tensor, size: int) -> Tensor:
    """Return each coil's image, (..., y, x), from the samples at the centre under a Hann window.

    ``y`` is (..., ky, kx); ``size`` x ``size`` samples of it are used.
    """
    window = torch.hann_window(size + 2, periodic=False, dtype=y.real.dtype, device=y.device)[1:-1]
    k = torch.zeros_like(y)
    central_square(k, size).copy_(central_square(y, size) * window[:, None] * window)
    return fourier_adjoint(k)


def low_resolution_maps(y: Tensor, size: int) -> Tensor:
    """Return each coil's coarse image over the root of the sum of squares, without their common phase.

    As in SENSE (Pruessmann et al. 1999), but without a body coil: the common phase is that of the combination
    of coils with the most signal. The map of a single coil is 1 everywhere.

    Args:
        y: k-space, (coil, ky, kx).
        size: side of the fully sampled square at the centre.

    Returns:
        Maps, (coil, y, x).
    """
    if len(y) == 1:
        return torch.ones_like(y)
    images = low_resolution(y, size)
    total = images.abs().square().sum(0).sqrt()
    flat = images.flatten(1)
    _, vectors = torch.linalg.eigh(flat @ flat.mH)  # the last belongs to the largest eigenvalue
    combined = (vectors[:, -1].conj() @ flat).reshape(total.shape)
    common = torch.polar(torch.ones_like(total), combined.angle())
    return images * common.conj() / torch.where(total > 0, total, 1.0)
