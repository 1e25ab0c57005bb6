"""The one seam between the mathematics and the machines."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Communicator(Protocol):
    """Everything that solvers ask of the other workers, whose slabs lie in rank order along z."""

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """Number of workers."""
        ...

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
        """``tensor`` as it is."""
        return tensor

    def exchange_halo(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """No neighbours."""
        return None, None
