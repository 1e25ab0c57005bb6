"""Directions that no view measures, and the rotations that turn them onto measured ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from ddip_ray.operators.ct.coarse import distinct_views

_SLACK_DEG = 5  # overlap above the smallest one that does not rule a rotation out


def rotations_off_the_wedge(angles: Sequence[float]) -> list[int]:
    """Return the rotations in whole degrees, 0 to 179, that turn unmeasured directions onto measured ones.

    Rotations that leave the least overlap of the unmeasured directions with themselves are returned, with
    some slack. A view at θ measures the frequencies of direction θ. A direction counts as unmeasured if the
    nearest view is farther away than the median distance between neighbouring views. If no direction is
    unmeasured, all rotations are returned.

    Args:
        angles: view angles in radians.
    """
    views = [math.degrees(angles[view]) % 180 for view in distinct_views(angles)]
    usual = median(later - view for view, later in zip(views, [*views[1:], views[0] + 180], strict=True))
    unseen = [min(_between(k + 0.5, view) for view in views) > usual for k in range(180)]
    overlaps = [sum(unseen[k] and unseen[k - turn] for k in range(180)) for turn in range(180)]
    return [turn for turn, overlap in enumerate(overlaps) if overlap <= min(overlaps) + _SLACK_DEG]


def _between(a: float, b: float) -> float:
    """Return the angle between two directions in degrees, at most 90."""
    return abs((a - b + 90) % 180 - 90)
