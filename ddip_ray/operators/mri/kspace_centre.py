"""The centre of k-space that a trajectory fills, as Cartesian samples."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.numerics.conjugate_gradient import cgls
from ddip_ray.operators.mri.fourier import fourier
from ddip_ray.operators.mri.noncartesian import NonCartesianSense
from ddip_ray.operators.mri.sensitivity_maps import calibration_size, central_square

_ITERATIONS = 20
_NEAR = 0.75  # cycles over the field of view
_LARGEST_CENTRE = 24  # samples along each side: what ESPIRiT and a coarse image need


def centre_size(trajectory: Tensor, image_shape: tuple[int, int]) -> int:
    """Return the side of the largest square at the centre of k-space that the trajectory fills.

    A Cartesian sample counts as filled if a sample of the trajectory lies within 0.75 cycles over the field
    of view. This is the largest distance that the turns of a spiral and the spokes of a radial scan leave
    where they sample densely enough.

    Args:
        trajectory: cycles per pixel along y and x, (readout, sample, 2).
        image_shape: (y, x) of a slice.

    Returns:
        Number of samples along each side, at most 24.
    """
    shape = trajectory.new_tensor(image_shape)
    rows, columns = (torch.arange(min(n, _LARGEST_CENTRE + 1)) for n in image_shape)
    grid = torch.stack(torch.meshgrid(rows - len(rows) // 2, columns - len(columns) // 2, indexing="ij"), -1)
    samples = (trajectory * shape).reshape(-1, 2)
    near = samples[samples.abs().amax(-1) <= _LARGEST_CENTRE]
    if len(near) == 0:
        return 0
    distance = torch.cdist(grid.reshape(-1, 2).to(near), near).amin(1).reshape(grid.shape[:-1])
    return min(calibration_size((distance <= _NEAR).float()), _LARGEST_CENTRE)


def cartesian_centre(trajectory: Tensor, y: Tensor, image_shape: tuple[int, int], size: int) -> Tensor:
    """Return the Cartesian samples at the centre of k-space that explain those of the trajectory.

    They are the transform of the image of a few large pixels that fits, by least squares, the samples within
    the frequencies that such pixels resolve.

    Args:
        trajectory: cycles per pixel along y and x, (readout, sample, 2).
        y: samples, (coil, readout, sample).
        image_shape: (y, x) of a slice.
        size: side of the square at the centre; `centre_size` finds it.

    Returns:
        k-space (coil, ky, kx) that is zero outside the square.
    """
    ny, nx = image_shape
    k = torch.zeros(len(y), ny, nx, dtype=y.dtype, device=y.device)
    if size == 0:
        return k
    coarse = trajectory * trajectory.new_tensor([ny / size, nx / size])
    within = (coarse.abs() <= 0.5).all(-1)
    A = NonCartesianSense(coarse, y.new_ones(1, size, size), within)
    samples = (y * within.to(y.device))[:, None]  # each coil a slice
    image = cgls(lambda x: (A.forward(x),), lambda r: A.adjoint(r[0]), (samples,), _ITERATIONS).x
    # Both transforms are orthonormal, each to its own number of pixels, and show the same samples.
    central_square(k, size).copy_(fourier(image))
    return k
