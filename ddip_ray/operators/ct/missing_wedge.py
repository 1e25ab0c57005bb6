"""Directions that no view covers, and the turns of an image that bring them where views are."""

from __future__ import annotations

import math
from statistics import median

from ddip_ray.operators.ct.coarse import distinct_views

_SLACK_DEG = 5  # so much more overlap than the least is no reason to lose a turn


def turns_off_the_wedge(angles: tuple[float, ...]) -> list[int]:
    """Turns in whole degrees, of 0 to 179, that lay the unseen directions on seen ones as far as possible.

    A view at θ (of ``angles``, radians) sees the frequencies of direction θ. A direction is unseen if the
    nearest view is farther away than neighbouring directions usually are; where none is, every turn will do.
    """
    views = [math.degrees(angles[view]) % 180 for view in distinct_views(angles)]
    usual = median(later - view for view, later in zip(views, [*views[1:], views[0] + 180], strict=True))
    unseen = [min(_between(k + 0.5, view) for view in views) > usual for k in range(180)]
    overlaps = [sum(unseen[k] and unseen[k - turn] for k in range(180)) for turn in range(180)]
    return [turn for turn, overlap in enumerate(overlaps) if overlap <= min(overlaps) + _SLACK_DEG]


def _between(a: float, b: float) -> float:
    """Degrees between two directions, at most 90."""
    return abs((a - b + 90) % 180 - 90)
