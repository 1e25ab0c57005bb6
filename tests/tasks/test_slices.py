"""Ranges and slabs: every slice once, whole shards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddip_ray.errors import InputError
from ddip_ray.tasks import slices


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, range(20)), ("3:7", range(3, 7)), (":7", range(7)), ("3:", range(3, 20)), (":", range(20))],
)
def test_ranges(text: str | None, expected: range) -> None:
    assert slices.parse_range(text, 20, "slices") == expected


@pytest.mark.parametrize("text", ["7", "a:b", "7:3", "3:3", "0:21", "-1:3", "1:2:3"])
def test_bad_ranges(text: str) -> None:
    with pytest.raises(InputError, match="slices"):
        slices.parse_range(text, 20, "slices")


@given(
    num_slices=st.integers(1, 300),
    shard_slices=st.integers(1, 40),
    slice_bytes=st.integers(1, 2 * slices.SLAB_BYTES),
)
def test_slabs_are_whole_shards(num_slices: int, shard_slices: int, slice_bytes: int) -> None:
    found = list(slices.slabs(num_slices, shard_slices, slice_bytes))
    assert [i for start, stop in found for i in range(start, stop)] == list(range(num_slices))
    assert all(start % shard_slices == 0 for start, _ in found)
    limit = max(slices.SLAB_BYTES, shard_slices * slice_bytes)
    assert all((stop - start) * slice_bytes <= limit for start, stop in found)
