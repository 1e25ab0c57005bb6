"""A worker's part of a volume."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Slab:
    """The contiguous slices ``start`` … ``stop`` − 1 of a volume that one worker holds."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, slice_index: object) -> bool:
        return isinstance(slice_index, int) and self.start <= slice_index < self.stop
