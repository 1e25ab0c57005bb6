"""The one seam between the mathematics and the machines."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Communicator(Protocol):
    """What solvers may ask of the other workers. Slabs are in rank order along z."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum over the workers, in place; returns ``tensor``."""
        ...

    def exchange_halo(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(last slice of the slab before, first slice of the slab after); None at the volume's ends."""
        ...


class Alone:
    """One worker that holds the whole volume."""

    rank = 0
    world_size = 1

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor

    def exchange_halo(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return None, None
