"""What k-space along a trajectory shows at once: an image by gridding, and its Cartesian centre."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.numerics.conjugate_gradient import cgls
from ddip_ray.operators.mri.fourier import fourier
from ddip_ray.operators.mri.noncartesian import NonCartesianSense
from ddip_ray.operators.mri.sensitivity_maps import calibration_size, central_square

_DENSITY_ITERATIONS = 20
_CENTRE_ITERATIONS = 20
_NEAR = 0.75  # cycles over the field of view
_LARGEST_CENTRE = 24  # samples along each side: what ESPIRiT and a coarse image need


def gridded(operator: NonCartesianSense, y: Tensor) -> Tensor:
    """The adjoint of samples weighted by how far apart they lie, (z, coil, readout, sample) to (z, y, x)."""
    masks = operator.sampling_mask[:, 0]
    weights = [
        _spacing(path, mask, operator.sensitivity_maps)
        for path, mask in zip(operator.trajectory, masks, strict=True)
    ]
    return operator.adjoint(torch.stack(weights)[:, None] * y)


def _spacing(path: Tensor, mask: Tensor, like: Tensor) -> Tensor:
    """How much of k-space each sample stands for, (readout, sample): the iteration of Pipe and Menon.

    Weights w with which samples make a point, seen through a triangle as wide as twice the field of view,
    whose transform is positive: w ← w / (w ∗ sinc²) (1999, doi:10.1002/(SICI)1522-2594(199901)41:1<179).
    """
    ny, nx = like.shape[-2:]
    tents = [1 - (torch.arange(2 * n) - n).abs() / n for n in (ny, nx)]
    tent = (tents[0][:, None] * tents[1])[None].to(like)
    A = NonCartesianSense(path, torch.ones_like(tent), mask)
    weights = A.sampling_mask.to(tent.dtype)
    for _ in range(_DENSITY_ITERATIONS):
        # Four times the pixels: the transform is orthonormal, the weights are those of the image's.
        density = 4 * A.forward(tent * A.adjoint(weights)).abs()
        weights = torch.where(A.sampling_mask > 0, weights / density.where(density > 0, 1.0), 0.0)
    return weights[0, 0].real


def centre_size(trajectory: Tensor, image_shape: tuple[int, int]) -> int:
    """Side of the largest square at the centre of k-space that the trajectory fills, up to 24 samples.

    ``trajectory: (readout, sample, 2)``, cycles per pixel. A Cartesian sample has one of the trajectory near
    it, within the distance to which turns and spokes leave it that lie as close as they must.
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
    """What Cartesian samples would have shown in a square of ``size`` at the centre of (coil, ky, kx).

    ``trajectory: (readout, sample, 2)``, ``y: (coil, readout, sample)``. By least squares, on an image of few
    large pixels, of the samples within their reach.
    """
    ny, nx = image_shape
    k = torch.zeros(len(y), ny, nx, dtype=y.dtype, device=y.device)
    if size == 0:
        return k
    coarse = trajectory * trajectory.new_tensor([ny / size, nx / size])
    within = (coarse.abs() <= 0.5).all(-1)
    A = NonCartesianSense(coarse, y.new_ones(1, size, size), within)
    samples = (y * within.to(y.device))[:, None]  # each coil a slice
    image = cgls(lambda x: (A.forward(x),), lambda r: A.adjoint(r[0]), (samples,), _CENTRE_ITERATIONS).x
    # Both transforms are orthonormal, each to its own number of pixels, and show the same samples.
    central_square(k, size).copy_(fourier(image))
    return k
