"""Evenly spread choices, for measurements that are held out."""

from __future__ import annotations


def evenly_spread(count: int, share: float, seed: int) -> list[int]:
    """Return ``share`` of the indices below ``count``, evenly spread, at least one; ``seed`` shifts them."""
    chosen = max(1, round(share * count))
    return [(seed % count + k * count // chosen) % count for k in range(chosen)]
