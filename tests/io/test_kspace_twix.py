"""Siemens raw data, against the same k-space sorted by hand; partial acquisitions land where they belong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddip_ray.io.kspace.open import read_kspace
from ddip_ray.io.kspace.twix import centred_at

FOLDER = "kspace_16ch_brain_pulseq"


@pytest.mark.parametrize(
    ("name", "key"), [("2024-02-06-164128.dat", "kspace"), ("2024-02-06-164120.dat", "kspace_bodycoil")]
)
def test_a_brain_is_read_as_it_was_sorted_by_hand(
    real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str], name: str, key: str
) -> None:
    raw = read_kspace(real_data(f"{FOLDER}/{name}"))
    assert capsys.readouterr().out == ""  # of what may be JSON
    with np.load(real_data(f"{FOLDER}/kspace_16ch.npz")) as file:
        np.testing.assert_array_equal(raw.data.compute()[0], file[key])
    assert raw.format == "Siemens twix"
    assert raw.voxel_mm == (3.0, 2.0, 2.0)
    assert (raw.noise, raw.history) == (None, ())


@pytest.mark.parametrize(
    ("size", "centre", "expected", "first"),
    [
        (8, 4, 8, 0),
        (8, 0, 8, 0),  # a sequence that does not say
        (6, 4, 8, 0),  # stopped early
        (6, 2, 8, 2),  # begun late
        (1, 0, 1, 0),
    ],
)
def test_partial_acquisitions(size: int, centre: int, expected: int, first: int) -> None:
    k = np.arange(1, size + 1).astype(np.complex64)[None]
    whole = centred_at(k, 1, centre)
    assert whole.shape == (1, expected)
    np.testing.assert_array_equal(whole[:, first : first + size], k)
    assert np.count_nonzero(whole) == size
    if centre:
        assert whole[0, expected // 2] == k[0, centre]
