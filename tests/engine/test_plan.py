"""Cutting volumes into slabs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddip_ray.engine.planning.layout import plan_slabs
from ddip_ray.errors import InputError


@given(st.integers(1, 300), st.integers(1, 20), st.data())
def test_slabs_are_whole_shards_that_cover_the_volume_evenly(n: int, shard: int, data: st.DataObject) -> None:
    num_shards = -(-n // shard)
    slabs = plan_slabs(n, shard, data.draw(st.integers(1, num_shards)))
    assert slabs[0].start == 0
    assert slabs[-1].stop == n
    assert all(a.stop == b.start and a.stop % shard == 0 for a, b in itertools.pairwise(slabs))
    shards = [-(-len(slab) // shard) for slab in slabs]
    assert min(shards) >= 1
    assert max(shards) - min(shards) <= 1


def test_too_many_workers() -> None:
    with pytest.raises(InputError, match=r"5 workers for 8 slices in 4 shards of 2.*at most 4 workers"):
        plan_slabs(8, 2, 5)
    with pytest.raises(InputError, match="0 workers"):
        plan_slabs(8, 2, 0)
