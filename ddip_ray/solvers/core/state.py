"""Records of a method's state, from which it is resumed on the same workers or on others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from ddip_ray.solvers.core.slab import Slab

T = TypeVar("T")


@dataclass(frozen=True)
class SliceRows:
    """A tensor with a row for each slice of a slab."""

    slab: Slab
    tensor: Tensor

    def of(self, slab: Slab) -> Tensor:
        """The rows of ``slab``, whose slices are among these.

        Raises:
            RuntimeError: some of its slices are not.
        """
        if len(slab) == 0:
            return self.tensor[:0]
        first, last = slab.start - self.slab.start, slab.stop - self.slab.start
        if first < 0 or last > len(self.slab):
            raise RuntimeError(f"state of slices {self.slab} asked for {slab}")
        return self.tensor[first:last]


@dataclass
class Record:
    """The state of a method on one worker, by name.

    Attributes:
        slices: tensors with a row for each slice.
        shared: tensors that are the same on every worker.
        values: numbers, flags and lists of them.
    """

    slices: dict[str, SliceRows] = field(default_factory=dict)
    shared: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def joined(cls, records: Sequence[Record]) -> Record:
        """The record of several neighbouring slabs, from those of their workers in slab order."""
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
class Recorder:
    """Records the values that it is given or, when ``restoring``, returns the recorded ones instead.

    A method's ``save_or_restore(recorder)`` runs the same calls for both, ``self.x = recorder.slices("x",
    self.x, slab)``, so that saving and restoring cannot differ.

    Attributes:
        record: where values are written to or read from.
        restoring: whether recorded values are returned.
        device: where restored tensors are put.
        prefix: beginning of every name.
    """

    record: Record
    restoring: bool = False
    device: str | torch.device = "cpu"
    prefix: str = ""

    def within(self, name: str) -> Recorder:
        """The recorder of a part, whose names are its own."""
        return replace(self, prefix=f"{self.prefix}{name}.")

    @overload
    def slices(self, name: str, tensor: Tensor, slab: Slab) -> Tensor: ...

    @overload
    def slices(self, name: str, tensor: Tensor | None, slab: Slab) -> Tensor | None: ...

    def slices(self, name: str, tensor: Tensor | None, slab: Slab) -> Tensor | None:
        """A tensor with a row for each slice of ``slab``; None records nothing.

        Raises:
            RuntimeError: ``tensor`` is given, and no tensor of this name was recorded.
        """
        if self.restoring:
            found = self.record.slices.get(self.prefix + name)
            if found is None and tensor is not None:
                raise RuntimeError(f"state lacks {self.prefix}{name}")
            return None if found is None else found.of(slab).to(self.device, copy=True)
        if tensor is not None:
            self.record.slices[self.prefix + name] = SliceRows(slab, tensor.detach())
        return tensor

    def slices_by_name(
        self, tensors: Mapping[str, Tensor], slab: Slab, other_names: Collection[str]
    ) -> dict[str, Tensor]:
        """Tensors of which only the record knows the names: all of this part but ``other_names``."""
        names: Collection[str] = tensors
        if self.restoring:
            below = [
                name.removeprefix(self.prefix) for name in self.record.slices if name.startswith(self.prefix)
            ]
            names = [name for name in below if "." not in name and name not in other_names]
        rows = {name: self.slices(name, tensors.get(name), slab) for name in names}
        return {name: tensor for name, tensor in rows.items() if tensor is not None}

    def shared(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor that is the same on every worker."""
        if self.restoring:
            return self.record.shared[self.prefix + name].to(self.device)
        self.record.shared[self.prefix + name] = tensor.detach()
        return tensor

    def value(self, name: str, value: T) -> T:
        """A number, a flag or a list of them, the same on every worker or belonging to one slice."""
        if self.restoring:
            found: T = self.record.values[self.prefix + name]
            return found
        self.record.values[self.prefix + name] = value
        return value
