"""What the fully sampled centre of k-space shows: a coarse image, and the coils' sensitivities."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.operators.mri.fourier import fourier_adjoint

LEAST_CALIBRATION = 4  # samples along each side, for a phase and coils


def calibration_size(sampling_mask: Tensor) -> int:
    """Side of the largest square around the centre that was sampled in full, 0 if there is none.

    ``sampling_mask: (ky, kx)``, 0 or 1.
    """
    size = 0
    while size < min(sampling_mask.shape) and bool(central_square(sampling_mask, size + 1).all()):
        size += 1
    return size


def central_square(x: Tensor, size: int) -> Tensor:
    """The ``size`` x ``size`` samples around the centre of ``x: (..., ky, kx)``, a view."""
    ny, nx = x.shape[-2:]
    top, left = ny // 2 - size // 2, nx // 2 - size // 2
    return x[..., top : top + size, left : left + size]


def low_resolution(y: Tensor, size: int) -> Tensor:
    """Each coil's image from the ``size`` x ``size`` samples at the centre, under a Hann window.

    ``y: (..., ky, kx)`` to ``(..., y, x)``.
    """
    window = torch.hann_window(size + 2, periodic=False, dtype=y.real.dtype, device=y.device)[1:-1]
    k = torch.zeros_like(y)
    central_square(k, size).copy_(central_square(y, size) * window[:, None] * window)
    return fourier_adjoint(k)


def low_resolution_maps(y: Tensor, size: int) -> Tensor:
    """Each coil's coarse image over the root of the sum of squares, without the phase they have in common.

    As in Pruessmann et al. (1999), without a body coil: its phase is that of the combination of coils that
    has most of the signal. ``y: (coil, ky, kx)`` to ``(coil, y, x)``; one coil sees all alike.
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
