"""Noise is keyed by slice, and neighbours may share it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddip_ray.solvers.core.random import key, slab_noise
from ddip_ray.solvers.core.slab import Slab


@given(st.integers(1, 30), st.integers(1, 7), st.data())
@settings(max_examples=30, deadline=None)
def test_noise_does_not_know_the_slab(num_slices: int, anchor_distance: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, num_slices - 1))
    stop = data.draw(st.integers(start + 1, num_slices))
    whole = slab_noise(Slab(0, num_slices), (3, 5), 7, 2, anchor_distance=anchor_distance)
    part = slab_noise(Slab(start, stop), (3, 5), 7, 2, anchor_distance=anchor_distance)
    assert torch.equal(whole[start:stop], part)


@pytest.mark.parametrize("anchor_distance", [1, 4])
def test_noise_is_unit_normal_in_every_slice(anchor_distance: int) -> None:
    noise = slab_noise(Slab(0, 9), (128, 128), 0, 0, anchor_distance=anchor_distance)
    assert noise.mean(dim=(1, 2)).abs().max() < 0.03
    assert (noise.std(dim=(1, 2)) - 1).abs().max() < 0.03


def test_anchored_noise_is_alike_in_neighbours_only() -> None:
    noise = slab_noise(Slab(0, 9), (128, 128), 0, 0, anchor_distance=4)
    correlation = torch.corrcoef(noise.flatten(1))
    assert correlation[0, 1] == pytest.approx(math.cos(math.pi / 8), abs=0.02)
    assert correlation[0, 8].abs() < 0.03


def test_keys_are_all_different() -> None:
    keys = {key(seed, step, z) for seed in range(10) for step in range(20) for z in range(20)}
    assert len(keys) == 4000
