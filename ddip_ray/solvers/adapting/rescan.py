"""Rescans: simulated scans of a finished reconstruction, which lack what the real scan lacks."""

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
    """A scan of copies of every slice of a slab; those of a slice lie side by side.

    Attributes:
        scan: the problem of the copies, (z · copies, …).
        target: images that their reconstruction should become, (z · copies, y, x).
        field_of_view: 1 where every view sees the pixel and 0 outside, where no reconstruction is to be
            trusted, (y, x). A rotation about the axis keeps the two apart.
        num_copies: copies of each slice.
    """

    scan: SlabProblem
    target: Tensor
    field_of_view: Tensor
    num_copies: int


def check_rescannable(problem: SlabProblem, downsampling: int) -> None:
    """Refuse scans that cannot be scanned again, before hours are spent.

    Raises:
        InputError: too few views for a rescan, or nothing left of the slices at this size.
    """
    try:
        (problem.central_operator or problem.operator).coarse_scan(downsampling)
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
    """Scan downsampled copies of a reconstruction, each rotated by its own angle.

    An image k times smaller, measured from k times fewer views, lacks the same frequencies in cycles per
    pixel as the real scan. At this scale, though, the first reconstruction is a trustworthy ground truth. A
    missing wedge is turned to where there are views: what was made up in it must not become what the adapter
    learns to make up.

    The target is also made consistent with the real measurements: with noise, ``x0`` has lost detail that the
    measurements, whose noise the copies do not share, still hold on average (Lehtinen et al., Noise2Noise,
    ICML 2018, 1803.04189).

    Args:
        problem: the real scan.
        x0: its reconstruction, (z, y, x).
        downsampling: factor by which copies are smaller.
        num_copies: copies of each slice.
        seed: seed of angles and noise.
        lowest: lower bound of the images that a reconstruction of the rescan may find; the copies are clipped
            there, because it could not meet projections of others. None: no bound.
    """
    small = (problem.central_operator or problem.operator).coarse_scan(downsampling)
    operator = small.operator
    slab = Slab(num_copies * problem.slab.start, num_copies * problem.slab.stop)

    def copies(images: Tensor) -> Tensor:
        made = []
        for z, image in enumerate(images, start=problem.slab.start):
            angles = [_angle(key(seed, z * num_copies + k), small.rotations_deg) for k in range(num_copies)]
            rotated = _rotated(image.expand(num_copies, -1, -1), angles)
            made.append(_pooled(rotated, downsampling))
        return torch.cat(made)

    initial = None if problem.initial_image is None else copies(problem.initial_image)
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
    scan = SlabProblem(operator, y, slab, num_slices, noise_std, initial)
    return Rescan(scan, copies(consistent), small.field_of_view, num_copies)


def _angle(seed: int, turns: list[int]) -> float:
    """One of ``turns`` (degrees) and up to a degree more, or the opposite direction; in radians."""
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
