"""Scan a finished reconstruction again: data whose image is known, missing what the real data miss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ddip_ray.errors import InputError
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.random import key, normal
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.steps import correction

_NOISE = 0xA01  # keys the noise of the scans apart from their angles
_CG_ITERATIONS = 10  # enough to be consistent, too few to fit the noise


@dataclass(frozen=True)
class Rescan:
    """``scan`` of images that should become ``target``, both (z · copies, …): copies lie side by side.

    ``known`` (y, x) is 1 where every view sees the pixel, and 0 outside, where no reconstruction is to be
    trusted; a rotation about the axis keeps the two apart.
    """

    scan: SlabProblem
    target: Tensor
    known: Tensor
    num_copies: int  # of each slice


def check_rescannable(problem: SlabProblem, downsampling: int) -> None:
    """Before hours are spent.

    Raises:
        InputError: too few views for a rescan, or nothing left of the slices at this size.
    """
    try:
        (problem.typical or problem.operator).coarse_scan(downsampling)
    except InputError as error:
        raise InputError(f"adaptation.{error.message}", "Lower it, or use --method dds.") from error


def rescan(
    problem: SlabProblem,
    x0: Tensor,
    downsampling: int,
    num_copies: int,
    seed: int,
    *,
    lowest: float | None = None,
) -> Rescan:
    """A `coarse_scan` of downsampled copies of ``x0: (z, y, x)``, each rotated by its own angle.

    So many times fewer views of an image so many times smaller miss the same frequencies, counted in
    pixels; but at this size the real reconstruction knows them. A missing wedge is turned to where there are
    views: what was made up in it must not become what the adapter learns to make up.

    Images are cut off at the ``lowest`` value of those that the reconstruction of the scan may find: it could
    not meet projections of others.

    The target is also made consistent with what was measured: with noise, ``x0`` has lost detail that the
    measurements, whose noise the copies do not share, still hold on average (Lehtinen et al., Noise2Noise,
    1803.04189).
    """
    small = (problem.typical or problem.operator).coarse_scan(downsampling)
    operator = small.operator
    slab = Slab(num_copies * problem.slab.start, num_copies * problem.slab.stop)

    def copies(images: Tensor) -> Tensor:
        made = []
        for z, image in enumerate(images, start=problem.slab.start):
            angles = [_angle(key(seed, z * num_copies + k), small.rotations_deg) for k in range(num_copies)]
            rotated = _rotated(image.expand(num_copies, -1, -1), angles)
            made.append(_pooled(rotated, downsampling))
        return torch.cat(made)

    earlier = None if problem.earlier is None else copies(problem.earlier)
    consistent = x0 + correction(problem.operator, problem.y, x0, math.inf, _CG_ITERATIONS)
    scanned = copies(x0) if lowest is None else copies(x0.clamp_min(lowest)).clamp_min(lowest)
    y = operator.forward(scanned)
    noise_std = small.noise_factor * problem.noise_std
    shape, is_complex = operator.measurement_shape, y.is_complex()
    noise = torch.stack(
        [normal(shape, seed, _NOISE, j, is_complex=is_complex) for j in range(slab.start, slab.stop)]
    )
    if small.sampling_mask is not None:
        noise = small.sampling_mask.cpu() * noise
    y = y + noise_std * noise.to(y.device)
    num_slices = num_copies * problem.num_slices
    scan = SlabProblem(operator, y, slab, num_slices, noise_std, earlier)
    return Rescan(scan, copies(consistent), small.field_of_view, num_copies)


def _angle(seed: int, turns: list[int]) -> float:
    """One of ``turns`` and up to a degree more, or that from the other side; radians."""
    u = 2 * len(turns) * float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
    opposite, place = divmod(u, len(turns))
    return math.radians(180 * opposite + turns[int(place)] + place % 1)


def _rotated(x: Tensor, angles: list[float]) -> Tensor:
    """Each of ``x: (z, y, x)`` rotated counter-clockwise about the centre, in radians; borders continued."""
    if x.is_complex():
        return torch.complex(_rotated(x.real, angles), _rotated(x.imag, angles))
    ny, nx = x.shape[1:]
    # affine_grid counts in half image sides, and its second axis points down.
    matrices = [
        [[math.cos(a), -math.sin(a) * ny / nx, 0.0], [math.sin(a) * nx / ny, math.cos(a), 0.0]]
        for a in angles
    ]
    grid = functional.affine_grid(x.new_tensor(matrices), [len(x), 1, ny, nx], align_corners=False)
    rotated = functional.grid_sample(
        x[:, None], grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return rotated[:, 0]


def _pooled(x: Tensor, k: int) -> Tensor:
    """Means over ``k`` x ``k`` pixels of (z, y, x)."""
    if x.is_complex():
        return torch.complex(_pooled(x.real, k), _pooled(x.imag, k))
    return functional.avg_pool2d(x[:, None], k)[:, 0]
