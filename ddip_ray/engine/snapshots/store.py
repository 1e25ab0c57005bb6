"""Snapshots of a run, from which it goes on: every worker's state, and a marker that says it is whole."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ddip_ray.io import paths
from ddip_ray.io.stores.schema import Frozen
from ddip_ray.io.stores.snapshot_files import (
    StoredArray,
    delete_all_but,
    read_array,
    read_documents,
    write_array,
    write_document,
)
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Record, SliceRows

HOW_TO_GO_ON = "Give what it was begun with to go on, or delete it (--restart) to begin anew."
NUM_KEPT = 2  # a driver that dies while it publishes leaves the one before


class StoredRows(Frozen):
    """An array with rows for each of the slices ``start`` … ``stop`` − 1."""

    start: int
    stop: int
    array: StoredArray


class Part(Frozen):
    """What one worker wrote, of the slices ``start`` … ``stop`` − 1 of the volume."""

    start: int
    stop: int
    slices: dict[str, StoredRows]
    shared: dict[str, StoredArray]
    values: dict[str, Any]


class Attempt(Frozen):
    """Steps that were made by the same workers, one after another."""

    first_step: int
    stop_step: int
    num_workers: int
    seconds: float


class Progress(Frozen):
    """How far a run has come, and what it found on the way; ``residual`` null before its first step.

    It can be done before the last of its steps.
    """

    step: int = 0
    is_done: bool = False
    residual: float | None = None
    notes: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()


class Marker(Frozen):
    """A whole snapshot: of which run, how far, in which files."""

    version: Literal[1] = 1
    name: str
    run: dict[str, Any]
    progress: Progress
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of the run that writes one output, in ``folder`` beside it. Pickles."""

    folder: str

    @classmethod
    def beside(cls, output: str) -> Snapshots:
        return cls(f"{paths.absolute(output)}.snapshots")

    @staticmethod
    def new_name(step: int) -> str:
        """Sorts by step; never that of an attempt before."""
        return f"step-{step:06d}-{secrets.token_hex(4)}"

    def write_part(self, name: str, slab: Slab, record: Record) -> Part:
        """A worker's state; nobody finds it before `publish`.

        Raises:
            InputError: no space, no access.
        """
        below = f"{name}/{slab.start:06d}"

        def stored(key: str, tensor: torch.Tensor) -> StoredArray:
            return write_array(self.folder, f"{below}/{key}.npy", tensor.resolve_conj().cpu().numpy())

        slices = {
            key: StoredRows(start=rows.slab.start, stop=rows.slab.stop, array=stored(key, rows.tensor))
            for key, rows in record.slices.items()
        }
        shared = {key: stored(key, tensor) for key, tensor in record.shared.items()}
        return Part(start=slab.start, stop=slab.stop, slices=slices, shared=shared, values=record.values)

    def publish(self, marker: Marker) -> None:
        """Make it one that is found, when all its parts are written."""
        write_document(self.folder, marker.name, marker)

    def keep_only(self, names: Collection[str]) -> None:
        """Delete all others, and what is left of some that were never published."""
        delete_all_but(self.folder, set(names))

    def found(self) -> list[Marker]:
        """All that are whole, the last first."""
        return read_documents(self.folder, Marker)

    def read(self, marker: Marker, slab: Slab) -> Record:
        """The state of all workers whose slices are in ``slab``.

        Raises:
            DamagedSnapshot: a file is missing or is not what was written.
        """
        parts = [part for part in marker.parts if part.start < slab.stop and slab.start < part.stop]
        return Record.joined([self._record(part) for part in parts])

    def _record(self, part: Part) -> Record:
        def tensor(stored: StoredArray) -> torch.Tensor:
            return torch.from_numpy(read_array(self.folder, stored))

        slices = {
            key: SliceRows(Slab(rows.start, rows.stop), tensor(rows.array))
            for key, rows in part.slices.items()
        }
        return Record(slices, {key: tensor(stored) for key, stored in part.shared.items()}, part.values)

    def delete(self) -> None:
        """All of them."""
        paths.delete_tree(self.folder)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Where two documents differ: "name: 50 there, 30 here"."""
    for key in sorted(a.keys() | b.keys()):
        there, here = a.get(key), b.get(key)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            yield from (f"{key}.{text}" for text in differences(there, here))
        elif there != here:
            yield f"{key}: {there!r} there, {here!r} here"
