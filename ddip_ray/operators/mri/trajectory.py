"""Trajectories of readouts through k-space that follow no grid."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

GOLDEN = math.pi * (math.sqrt(5) - 1) / 2  # angle between successive spokes or slices
_ARMS = 8  # of a spiral
_OUTER = 0.9  # of the farthest sample
_CENTRE = 0.15  # of the way outwards, where its turns lie as close as they must


def trajectory(
    pattern: str, image_shape: tuple[int, int], acceleration: float, turned: int = 0
) -> NDArray[np.float32]:
    """Return a trajectory (readout, sample, 2) in cycles per pixel along y and x, all within half a cycle.

    Args:
        pattern: ``radial``, spokes through the centre at successive golden angles, in the number of lines
            that a Cartesian scan of this acceleration has; or ``spiral``, eight arms.
        image_shape: (y, x) of a slice.
        acceleration: nominal acceleration. The turns of spirals lie farther apart by this factor than the
            field of view requires, except around the centre.
        turned: number of golden angles by which to rotate the trajectory, for slices that differ.

    Raises:
        ValueError: another pattern, or an acceleration below 1.
    """
    if not acceleration >= 1:
        raise ValueError(f"acceleration {acceleration:g}, expected at least 1")
    n = max(image_shape)
    if pattern == "radial":
        angles = GOLDEN * (turned + np.arange(max(1, round(image_shape[0] / acceleration))))[:, None]
        along = (np.arange(n) - n // 2) / n
    elif pattern == "spiral":
        turns, radius = _arm(n / 2, acceleration)
        angles = 2 * np.pi * (np.arange(_ARMS)[:, None] / _ARMS + turns) + GOLDEN * turned
        along = radius / n
    else:
        raise ValueError(f"pattern {pattern}, expected radial or spiral")
    return np.stack([along * np.sin(angles), along * np.cos(angles)], axis=-1).astype(np.float32)


def fewer_readouts(path: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the indices of ``count`` readouts, chosen to leave small gaps between them.

    They are every n-th readout or the first ``count``, whichever leaves the smaller largest gap. Every 3rd,
    5th or 8th golden-angle spoke, for example, would cluster. ``path`` is (readout, sample, 2).
    """
    candidates = np.arange(count) * len(path) // count, np.arange(count)
    return min(candidates, key=lambda chosen: _largest_gap(path[chosen]))


def _largest_gap(path: NDArray[np.float32]) -> float:
    """Return the largest angle between neighbouring samples far from the centre, in radians."""
    samples = path.reshape(-1, 2)
    radius = np.linalg.norm(samples, axis=-1)
    outer = samples[radius >= _OUTER * radius.max()]
    angles = np.sort(np.arctan2(outer[:, 0], outer[:, 1]))
    return float(np.diff(angles, append=angles[0] + 2 * np.pi).max())


def _arm(farthest: float, acceleration: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return turns and radius of the samples of a spiral arm, the radius in cycles over the field of view.

    Samples lie one such cycle apart along the arm.
    """
    centre = _CENTRE * farthest
    edge = (centre / _ARMS, centre / _ARMS + (farthest - centre) / (_ARMS * acceleration))
    turns = np.linspace(0, edge[1], 20_000)
    radius = np.interp(turns, [0, *edge], [0, centre, farthest])
    steps = np.hypot(np.diff(radius), 2 * np.pi * radius[1:] * np.diff(turns))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    even = np.interp(np.linspace(0, length[-1], max(2, math.ceil(length[-1]))), length, turns)
    return even, np.interp(even, turns, radius)
