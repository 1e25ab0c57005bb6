"""Where in k-space readouts go that keep to no grid."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_GOLDEN = math.pi * (math.sqrt(5) - 1) / 2  # angle between successive spokes or slices
_ARMS = 8  # of a spiral


def trajectory(
    pattern: str, image_shape: tuple[int, int], acceleration: float, turned: int = 0
) -> NDArray[np.float32]:
    """Cycles per pixel along y and x, (readout, sample, 2), all within half a cycle.

    ``radial``: spokes through the centre, golden angles apart, as many as lines would be taken at this
    ``acceleration``. ``spiral``: eight arms, whose turns lie so many times farther apart than the field of
    view asks for. ``turned`` so many golden angles, for slices that differ.

    Raises:
        ValueError: another pattern, or an acceleration below 1.
    """
    if not acceleration >= 1:
        raise ValueError(f"acceleration {acceleration:g}, expected at least 1")
    n = max(image_shape)
    if pattern == "radial":
        angles = _GOLDEN * (turned + np.arange(max(1, round(n / acceleration))))[:, None]
        along = (np.arange(n) - n // 2) / n
    elif pattern == "spiral":
        turns = n / (2 * _ARMS * acceleration)
        num_samples = max(2, math.ceil(math.pi / 2 * n * turns))  # one cycle over the field of view apart
        share = np.sqrt(np.linspace(0, 1, num_samples))  # of even speed
        angles = 2 * np.pi * (np.arange(_ARMS)[:, None] / _ARMS + turns * share) + _GOLDEN * turned
        along = share / 2
    else:
        raise ValueError(f"pattern {pattern}, expected radial or spiral")
    return np.stack([along * np.sin(angles), along * np.cos(angles)], axis=-1).astype(np.float32)
