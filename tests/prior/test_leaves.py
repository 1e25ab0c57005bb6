"""Leaves: shapes of the right size, textures of the right spectrum, the same for the same seed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddip_ray.prior.training import leaf_painter as row
from ddip_ray.prior.training.leaves import random_leaves
from ddip_ray.prior.training.textures import band_field, blurred, power_law_field, random_field

SIZE = 64


def painted(kind: int, outline: list[float], **columns: float) -> NDArray[np.float64]:
    """One leaf of radius 20 in the middle of a black image."""
    leaf = np.zeros((1, row.NUM_COLUMNS))
    leaf[0, [row.CY, row.CX, row.RADIUS, row.ASPECT, row.VALUE]] = SIZE / 2, SIZE / 2, 20, 1, 1
    leaf[0, row.KIND] = kind
    leaf[0, row.OUTLINE : row.OUTLINE + len(outline)] = outline
    for name, value in columns.items():
        leaf[0, getattr(row, name)] = value
    image = np.zeros((SIZE, SIZE))
    row.paint_leaves(image, leaf, np.ones((1, SIZE, SIZE)), 1.0)
    return image


HEXAGON = [f(k * math.pi / 3) / 0.8 for f in (math.cos, math.sin) for k in range(6)]
STAR = [0.0, 0.1, 0, 0, 0, 0, 0, 0, 0.05, 0, 0, 0]
AREAS = {
    "circle": (row.SUPERELLIPSE, [2.0], math.pi * 400),
    "diamond": (row.SUPERELLIPSE, [1.0], 2 * 400),
    "square": (row.SUPERELLIPSE, [60.0], 4 * 400),
    "hexagon": (row.POLYGON, HEXAGON, 2 * math.sqrt(3) * 16**2),
    "star": (row.STAR, STAR, math.pi * 400 * (1 + (0.1**2 + 0.05**2) / 2)),
    "arc": (row.ARC, [2.0, math.pi / 2], 4 * 20 * math.pi + math.pi * 2**2),
}


@pytest.mark.parametrize(
    ("name", "aspect"), [*((name, 1.7) for name in AREAS if name != "arc"), ("arc", 1.0)]
)
def test_leaves_have_their_area(name: str, aspect: float) -> None:
    kind, outline, area = AREAS[name]
    image = painted(kind, outline, ASPECT=aspect, ANGLE=0.3)
    assert image.sum() == pytest.approx(area, rel=0.02)
    assert image.max() == pytest.approx(1)


def test_shells_slopes_textures_and_sums() -> None:
    shell = painted(row.SUPERELLIPSE, [2.0], RIM=3, RIM_VALUE=0.5)
    middle = shell[SIZE // 2]
    assert middle[SIZE // 2] == 1
    assert middle[SIZE // 2 + 18] == pytest.approx(0.5)
    sloped = painted(row.SUPERELLIPSE, [2.0], SLOPE_X=0.01)
    assert sloped[SIZE // 2, SIZE // 2 + 10] == pytest.approx(1.1)
    toned = painted(row.SUPERELLIPSE, [2.0], TONE=0.25)
    assert toned[SIZE // 2, SIZE // 2] == pytest.approx(1.25)
    twice = np.full((SIZE, SIZE), 0.5)
    leaf = np.zeros((1, row.NUM_COLUMNS))
    leaf[0, [row.RADIUS, row.ASPECT, row.VALUE, row.ADDS]] = 200, 1, 0.25, 1
    leaf[0, row.OUTLINE] = 2
    row.paint_leaves(twice, leaf, np.zeros((1, SIZE, SIZE)), 1.0)
    assert twice == pytest.approx(0.75)


def spectrum_slope(field: NDArray[np.float64]) -> float:
    """The exponent of amplitude over frequency, between 4 and 40 cycles an image."""
    size = len(field)
    power = np.abs(np.fft.fft2(field)) ** 2
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]) * size
    edges = np.geomspace(4, 40, 6)
    bands = [(k >= a) & (k < b) for a, b in itertools.pairwise(edges)]
    centres = [np.log(k[band]).mean() for band in bands]
    return float(np.polyfit(centres, [0.5 * np.log(power[band].mean()) for band in bands], 1)[0])


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_textures_follow_their_power_law(decay: float) -> None:
    slopes = [spectrum_slope(power_law_field(np.random.default_rng(k), 128, decay)) for k in range(12)]
    assert np.median(slopes) == pytest.approx(-decay, abs=0.15)


def test_fields_are_standardised() -> None:
    for k in range(20):
        field = random_field(np.random.default_rng(k), 48)
        assert field.mean() == pytest.approx(0, abs=1e-9)
        assert field.std() == pytest.approx(1)
    narrow, wide = (band_field(np.random.default_rng(0), 64, 0.5, width) for width in (0.1, 0.5))
    assert np.abs(np.diff(narrow)).mean() < 0.5 * np.abs(np.diff(wide)).mean()


def test_blur_keeps_the_mean_and_spreads_a_point() -> None:
    point = np.zeros((32, 32))
    point[16, 16] = 1
    spread = blurred(point, 1.5)
    assert spread.sum() == pytest.approx(1)
    assert spread[16, 16] == pytest.approx(1 / (2 * math.pi * 1.5**2), rel=0.02)


def test_phantoms_are_keyed_varied_and_in_range() -> None:
    first, again, other = (
        random_leaves(24, 48, (3, 1)),
        random_leaves(24, 48, (3, 1)),
        random_leaves(24, 48, 4),
    )
    assert first.shape == (24, 1, 48, 48)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.isfinite().all()
    assert first.min() >= 0
    assert first.max() <= 1
    spread = first.flatten(1).std(dim=1)
    assert (spread > 0.005).float().mean() > 0.8  # few are nearly empty
    assert 0.2 < (spread < 0.1).float().mean() < 0.9  # low contrast and high contrast


def test_phantoms_of_every_size() -> None:
    for size in (16, 33, 96):
        assert random_leaves(3, size, 0).shape == (3, 1, size, size)
