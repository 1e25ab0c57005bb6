"""Ranges of slices or rows as people write them, and the slabs in which a task works through a volume."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ddip_ray.errors import InputError

SLAB_BYTES = 256 * 2**20


def parse_range(text: str | None, size: int, what: str) -> range:
    """The range that a text means.

    Args:
        text: ``"10:34"``, ``":34"`` or ``"10:"``; None means all.
        size: How many there are.
        what: What is counted, for the message.

    Raises:
        InputError: no range, or one that reaches beyond ``size``.
    """
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
    """The slabs [start, stop) in which a volume is worked through: whole shards, about 256 MiB each.

    Args:
        num_slices: Slices of the volume.
        shard_slices: Slices of a shard.
        slice_bytes: Bytes of a slice in memory.
    """
    shards = max(1, SLAB_BYTES // (shard_slices * slice_bytes))
    step = shards * shard_slices
    for start in range(0, num_slices, step):
        yield start, min(start + step, num_slices)
