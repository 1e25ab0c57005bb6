"""Ranges of slices, rows or views as people write them, and the slabs that a volume is worked through in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ddip_ray.errors import InputError

SLAB_BYTES = 256 * 2**20


def parse_range(text: str | None, size: int, what: str) -> range:
    """``"10:34"``, ``":34"``, ``"10:"`` or None (all) as a range within ``size`` of ``what``."""
    if text is None:
        return range(size)
    match = re.fullmatch(r"(\d*):(\d*)", text)
    if match is None:
        raise InputError(
            f"{what}: found {text!r}, expected START:STOP", "For example 10:34; STOP is left out"
        )
    start = int(match[1] or 0)
    stop = int(match[2] or size)
    if not 0 <= start < stop <= size:
        raise InputError(f"{what}: {start}:{stop} does not fit into the {size} there are (0:{size})")
    return range(start, stop)


def slabs(num_slices: int, shard_slices: int, slice_bytes: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of slabs of whole shards, about 256 MiB each."""
    shards = max(1, SLAB_BYTES // (shard_slices * slice_bytes))
    step = shards * shard_slices
    for start in range(0, num_slices, step):
        yield start, min(start + step, num_slices)
