"""Sampling patterns: as fast as they say, full at the centre, and a function of their seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddip_ray.operators.mri.sampling_mask import LINES, PATTERNS, SamplingPattern, sampling_mask
from ddip_ray.operators.mri.sensitivity_maps import calibration_size

RANDOM: tuple[SamplingPattern, ...] = ("random1d", "gaussian1d", "gaussian2d", "poisson")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(64, 64), (48, 60)])
def test_centre_is_full(pattern: SamplingPattern, shape: tuple[int, int]) -> None:
    mask = sampling_mask(pattern, shape, 4, 6, 0)
    assert mask.shape == shape
    assert mask.dtype == bool
    assert calibration_size(torch.from_numpy(mask).float()) >= 6


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p not in ("full", "uniform1d")])
@pytest.mark.parametrize("acceleration", [2, 4, 8])
def test_true_acceleration(pattern: SamplingPattern, acceleration: float) -> None:
    mask = sampling_mask(pattern, (96, 96), acceleration, 8, 1)
    assert mask.size / mask.sum() == pytest.approx(acceleration, rel=0.06)


def test_uniform_lines_are_so_far_apart_and_hit_the_centre() -> None:
    mask = sampling_mask("uniform1d", (32, 20), 4, 0, 0)
    assert (mask.all(axis=1) == mask.any(axis=1)).all()
    assert np.flatnonzero(mask[:, 0]).tolist() == list(range(0, 32, 4))
    assert mask[16].all()


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p not in ("full", "uniform1d")])
def test_a_centre_that_is_all_that_may_be_taken(pattern: SamplingPattern) -> None:
    """A search for fewer samples than the centre has would end nowhere."""
    mask = sampling_mask(pattern, (32, 32), 8, 16, 0)
    assert mask.sum() == (16 * 32 if pattern in LINES else 16 * 16)


def test_random_lines_are_anywhere_and_gaussian_ones_near_the_centre() -> None:
    def outer_share(pattern: SamplingPattern) -> float:
        masks = [sampling_mask(pattern, (128, 4), 4, 0, seed)[:, 0] for seed in range(50)]
        return float(np.mean([mask[:32].sum() + mask[96:].sum() for mask in masks]) / 32)

    assert outer_share("random1d") == pytest.approx(0.5, abs=0.05)
    assert outer_share("gaussian1d") < 0.3


@pytest.mark.parametrize("pattern", RANDOM)
def test_seeds(pattern: SamplingPattern) -> None:
    first, again, other = (sampling_mask(pattern, (48, 48), 4, 4, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_poisson_points_keep_their_distance_and_thin_out() -> None:
    mask = sampling_mask("poisson", (96, 96), 8, 0, 0)
    rows, columns = np.nonzero(mask)
    apart = np.hypot(rows[:, None] - rows, columns[:, None] - columns) + 1e9 * np.eye(len(rows))
    radius = np.hypot(rows - 48, columns - 48)
    nearest = apart.min(axis=1)
    assert nearest[radius > 40].min() > 1.5 * nearest[radius < 15].min()


@pytest.mark.parametrize(("acceleration", "calibration"), [(0.5, 4), (4, 65), (4, -1)])
def test_impossible_requests(acceleration: float, calibration: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        sampling_mask("poisson", (64, 64), acceleration, calibration, 0)


def test_a_mask_without_centre_has_no_calibration() -> None:
    mask = torch.ones(8, 8)
    mask[4, 4] = 0
    assert calibration_size(mask) == 0
    assert calibration_size(torch.ones(8, 6)) == 6
