"""Which turns of an image hide what a scan does not see."""

from __future__ import annotations

import math

import pytest

from ddip_ray.operators.ct.missing_wedge import rotations_off_the_wedge


def views(number: int, first_deg: float, range_deg: float) -> tuple[float, ...]:
    return tuple(math.radians(first_deg + range_deg * k / number) for k in range(number))


@pytest.mark.parametrize("number", [4, 8, 30, 181])
def test_every_turn_will_do_for_a_full_scan(number: int) -> None:
    assert rotations_off_the_wedge(views(number, 3.0, 180.0)) == list(range(180))
    assert rotations_off_the_wedge(views(number, 3.0, -180.0)) == list(range(180))


def test_every_turn_will_do_for_golden_angles() -> None:
    golden = tuple(math.radians(111.246 * k) for k in range(40))
    assert len(rotations_off_the_wedge(golden)) == 180


@pytest.mark.parametrize("first_deg", [0.0, 45.0, -100.0, 400.0])
def test_a_wedge_comes_to_lie_on_views(first_deg: float) -> None:
    """60 degrees are missing: a turn by less leaves a part of them on itself."""
    turns = rotations_off_the_wedge(views(60, first_deg, 120.0))
    assert 50 <= min(turns) <= 60
    assert 120 <= max(turns) <= 130
    assert turns == list(range(min(turns), max(turns) + 1))


def test_directions_measured_twice_count_once() -> None:
    once = views(60, 0.0, 120.0)
    opposite = tuple(angle + math.pi for angle in once)
    assert rotations_off_the_wedge(once + opposite + once) == rotations_off_the_wedge(once)


def test_a_wedge_too_wide_to_hide_overlaps_least() -> None:
    """100 of 180 degrees are missing: 20 at least lie on themselves, at turns around the right angle."""
    turns = rotations_off_the_wedge(views(40, 0.0, 80.0))
    assert 70 <= min(turns) < 85
    assert 95 < max(turns) <= 110


def test_two_wedges() -> None:
    """At right angles to each other: a right angle would lay one on the other."""
    turns = rotations_off_the_wedge(views(30, 0.0, 60.0) + views(30, 90.0, 60.0))
    assert 90 not in turns
    assert 45 in turns
    assert 135 in turns
