"""What a method needs to go on later, on the same workers or on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from ddip_ray.solvers.core.slab import Slab

T = TypeVar("T")


@dataclass(frozen=True)
class SliceRows:
    """What belongs to the slices of a slab: ``tensor`` has a row for each."""

    slab: Slab
    tensor: Tensor

    def of(self, slab: Slab) -> Tensor:
        """The rows of other slices, which are among these."""
        if len(slab) == 0:
            return self.tensor[:0]
        first, last = slab.start - self.slab.start, slab.stop - self.slab.start
        if first < 0 or last > len(self.slab):
            raise RuntimeError(f"state of slices {self.slab} asked for {slab}")
        return self.tensor[first:last]


@dataclass
class Record:
    """The state of a method on one worker, by name.

    ``shared`` tensors are the same on every worker; ``values`` are numbers, flags and lists of them.
    """

    slices: dict[str, SliceRows] = field(default_factory=dict)
    shared: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def joined(cls, records: Sequence[Record]) -> Record:
        """Of the workers of neighbouring slabs, in their order."""
        whole = cls()
        for record in records:
            whole.shared |= record.shared
            whole.values |= record.values
            for name, rows in record.slices.items():
                before = whole.slices.get(name)
                whole.slices[name] = rows if before is None else _joined(name, before, rows)
        return whole


def _joined(name: str, a: SliceRows, b: SliceRows) -> SliceRows:
    if len(a.slab) == 0 or len(b.slab) == 0:
        return b if len(a.slab) == 0 else a
    if a.slab.stop != b.slab.start:
        raise RuntimeError(f"state {name}: slices {a.slab} and {b.slab} are no neighbours")
    return SliceRows(Slab(a.slab.start, b.slab.stop), torch.cat([a.tensor, b.tensor]))


@dataclass(frozen=True)
class State:
    """Records what it is given, or gives back what was recorded: the same calls do both.

    A method's ``keep(state)`` hands over everything and takes back what it gets, ``self.x = state.slices("x",
    self.x, slab)``, so that the two cannot differ.
    """

    record: Record
    restoring: bool = False
    device: str | torch.device = "cpu"
    prefix: str = ""

    def within(self, name: str) -> State:
        """The state of a part, whose names are its own."""
        return replace(self, prefix=f"{self.prefix}{name}.")

    @overload
    def slices(self, name: str, tensor: Tensor, slab: Slab) -> Tensor: ...

    @overload
    def slices(self, name: str, tensor: Tensor | None, slab: Slab) -> Tensor | None: ...

    def slices(self, name: str, tensor: Tensor | None, slab: Slab) -> Tensor | None:
        """A row for each slice of ``slab``, or None."""
        if self.restoring:
            found = self.record.slices.get(self.prefix + name)
            if found is None and tensor is not None:
                raise RuntimeError(f"state lacks {self.prefix}{name}")
            return None if found is None else found.of(slab).to(self.device, copy=True)
        if tensor is not None:
            self.record.slices[self.prefix + name] = SliceRows(slab, tensor.detach())
        return tensor

    def shared(self, name: str, tensor: Tensor) -> Tensor:
        """The same on every worker."""
        if self.restoring:
            return self.record.shared[self.prefix + name].to(self.device)
        self.record.shared[self.prefix + name] = tensor.detach()
        return tensor

    def value(self, name: str, value: T) -> T:
        """A number, a flag or a list of such; the same on every worker, or of one slice."""
        if self.restoring:
            found: T = self.record.values[self.prefix + name]
            return found
        self.record.values[self.prefix + name] = value
        return value
