"""Sampling masks of Cartesian k-space, in the patterns that the field compares on."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ddip_ray.config.names import SamplingPattern
from ddip_ray.numerics.jit import compiled
from ddip_ray.operators.mri.trajectory import GOLDEN

Mask = NDArray[np.bool_]
PATTERNS: tuple[SamplingPattern, ...] = get_args(SamplingPattern)
LINES: tuple[SamplingPattern, ...] = ("uniform1d", "random1d", "gaussian1d")  # the rest are points

_CALIBRATION_SHARE = 0.08
_SPREAD = 1 / 6  # standard deviation of the Gaussian densities, over the size of k-space
_SEARCH = 20  # halvings
_DISTANCE_GROWTH = 2.0  # of Poisson discs, from the centre to the edge's middle: added to 1


def sampling_mask(
    pattern: SamplingPattern, shape: tuple[int, int], acceleration: float, calibration: int, seed: int
) -> Mask:
    """Return a mask (ky, kx) that is True where a sample is taken, with zero frequency at size // 2.

    Args:
        pattern: lines along x: ``uniform1d`` (equally spaced, through the centre), ``random1d`` (equally
            likely everywhere; the "uniform 1D" of Score-MRI, DDS and D3IP), ``gaussian1d`` (denser near the
            centre); points: ``gaussian2d``, ``poisson`` (discs whose distance grows outwards); trajectories
            rounded to the nearest samples: ``radial`` (golden angle), ``spiral``; or ``full``.
        shape: number of samples (ky, kx).
        acceleration: nominal acceleration. For ``uniform1d`` it is the distance between lines before the
            centre is filled; for the others all samples over those taken, as nearly as whole lines, spokes or
            turns allow.
        calibration: number of lines, or side of the square, sampled in full at the centre.
        seed: seed of the random patterns.

    Raises:
        ValueError: acceleration below 1, or a calibration region that is larger than k-space.
    """
    ny, nx = shape
    if not acceleration >= 1:
        raise ValueError(f"acceleration {acceleration:g}, expected at least 1")
    if not 0 <= calibration <= min(shape):
        raise ValueError(f"calibration {calibration}, expected 0 to {min(shape)} for k-space of {ny} x {nx}")
    rng = np.random.default_rng(seed)
    centre = _centre(shape, calibration, lines=pattern in LINES)
    wanted = round(ny * nx / acceleration)
    if pattern not in ("full", "uniform1d") and centre.sum() >= wanted:
        return centre
    match pattern:
        case "full":
            mask = np.ones(shape, dtype=bool)
        case "uniform1d":
            lines = (np.arange(ny) - ny // 2) % max(1, round(acceleration)) == 0
            mask = lines[:, None] | centre
        case "random1d" | "gaussian1d":
            density = _gaussian((ny, 1)) if pattern == "gaussian1d" else np.ones((ny, 1))
            mask = _drawn(centre[:, :1], density, round(ny / acceleration), rng) | centre
        case "gaussian2d":
            mask = _drawn(centre, _gaussian(shape), wanted, rng)
        case "poisson":
            order, growth = rng.permutation(ny * nx), 1 + _DISTANCE_GROWTH * np.hypot(*_offsets(shape))
            farthest = max(shape)  # apart, of two points
            mask = _nearest(
                lambda density: centre | _discs(growth / density, order), wanted, 1 / farthest, 4.0
            )
        case "radial":
            mask = _nearest(lambda n: centre | _spokes(shape, round(n)), wanted, 1, 4 * max(shape))
        case "spiral":
            mask = _nearest(lambda turns: centre | _spiral(shape, turns), wanted, 0, max(shape) / 2)
    return mask


def default_calibration(shape: tuple[int, int]) -> int:
    """Return the default number of lines, or side of the square, at the centre: 8 % of the lines."""
    return round(_CALIBRATION_SHARE * shape[0])


def _centre(shape: tuple[int, int], size: int, *, lines: bool) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    first = [n // 2 - size // 2 for n in shape]
    mask[first[0] : first[0] + size, slice(None) if lines else slice(first[1], first[1] + size)] = True
    return mask


def _offsets(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return distances from the centre along y and x, −1 to 1."""
    y, x = ((np.arange(n) - n // 2) / max(1, n // 2) for n in shape)
    return y[:, None], x[None, :]


def _gaussian(shape: tuple[int, int]) -> NDArray[np.float64]:
    y, x = _offsets(shape)
    density: NDArray[np.float64] = np.exp(-(y**2 + x**2) / (2 * (2 * _SPREAD) ** 2))
    return density


def _drawn(centre: Mask, density: NDArray[np.float64], wanted: int, rng: np.random.Generator) -> Mask:
    """Return ``centre`` and samples drawn by ``density`` without replacement, ``wanted`` in total."""
    mask = centre.copy().ravel()
    others = np.flatnonzero(~mask)
    count = min(max(0, wanted - int(mask.sum())), len(others))
    weights = density.ravel()[others]
    mask[rng.choice(others, count, replace=False, p=weights / weights.sum())] = True
    return mask.reshape(centre.shape)


@compiled
def _discs(reach: NDArray[np.float64], order: NDArray[np.int64]) -> Mask:
    """Return points taken in ``order``, except those nearer to an earlier one than their ``reach``."""
    ny, nx = reach.shape
    mask = np.zeros((ny, nx), dtype=np.bool_)
    for place in order:
        row, column = place // nx, place % nx
        r = reach[row, column]
        k = int(r)
        free = True
        for i in range(max(0, row - k), min(ny, row + k + 1)):
            for j in range(max(0, column - k), min(nx, column + k + 1)):
                if mask[i, j] and (i - row) ** 2 + (j - column) ** 2 < r * r:
                    free = False
                    break
            if not free:
                break
        mask[row, column] = free
    return mask


def _spokes(shape: tuple[int, int], num_spokes: int) -> Mask:
    radius = np.hypot(*shape) / 2
    along = np.arange(-radius, radius, 0.5)
    angles = np.arange(num_spokes)[:, None] * GOLDEN
    return _rasterised(shape, along * np.sin(angles), along * np.cos(angles))


def _spiral(shape: tuple[int, int], turns: float) -> Mask:
    """Return an Archimedean spiral out to the corners, and its mirror image through the centre."""
    radius = np.hypot(*shape) / 2
    share = np.sqrt(np.linspace(0, 1, 1 + int(4 * np.pi * turns * radius)))  # of even speed
    angle = 2 * np.pi * turns * share
    y, x = radius * share * np.sin(angle), radius * share * np.cos(angle)
    return _rasterised(shape, np.stack([y, -y]), np.stack([x, -x]))


def _rasterised(shape: tuple[int, int], y: NDArray[np.float64], x: NDArray[np.float64]) -> Mask:
    ny, nx = shape
    rows, columns = np.rint(y).astype(int) + ny // 2, np.rint(x).astype(int) + nx // 2
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    mask = np.zeros(shape, dtype=bool)
    mask[rows[inside], columns[inside]] = True
    return mask


def _nearest(mask_for: Callable[[float], Mask], wanted: int, low: float, high: float) -> Mask:
    """Return the mask whose number, from ``low`` to ``high``, takes nearest to ``wanted`` samples.

    Larger numbers must take more samples.
    """
    for _ in range(_SEARCH):
        middle = (low + high) / 2
        low, high = (middle, high) if mask_for(middle).sum() <= wanted else (low, middle)
    return min(mask_for(low), mask_for(high), key=lambda mask: abs(int(mask.sum()) - wanted))
