"""Snapshots of a run, from which it can go on: the state of every worker, and a marker written last."""

from __future__ import annotations

import math
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

HOW_TO_GO_ON = "Give what it was begun with to go on, or delete it (`restart=True`) to begin anew."
NUM_KEPT = 2  # a driver that dies while it publishes leaves the one before


class StoredRows(Frozen):
    """A stored array with one row for each of the slices ``start`` … ``stop`` − 1."""

    start: int
    stop: int
    array: StoredArray


class SlabFiles(Frozen):
    """The files in which one worker wrote its state, for the slices ``start`` … ``stop`` − 1.

    Attributes:
        start: first slice of the worker's slab.
        stop: the slice after its last.
        slices: arrays with a row for each slice, by name.
        shared: arrays that are the same on every worker, by name.
        values: numbers, flags and lists of them, by name.
    """

    start: int
    stop: int
    slices: dict[str, StoredRows]
    shared: dict[str, StoredArray]
    values: dict[str, Any]


class Attempt(Frozen):
    """Consecutive steps made by the same workers.

    Attributes:
        first_step: index of the first step.
        stop_step: index after the last step.
        num_workers: number of workers.
        seconds: time the steps and their snapshots took.
    """

    first_step: int
    stop_step: int
    num_workers: int
    seconds: float


class Progress(Frozen):
    """The progress of a run, and its findings on the way.

    Attributes:
        step: number of steps made.
        is_done: whether no step is left; a method may end before the last of its steps.
        residual: ‖A x − y‖/‖y‖ after the last step; None before the first step and where it is not finite.
        notes: findings of the method, one line each.
        attempts: who made the steps, in order.
    """

    step: int = 0
    is_done: bool = False
    residual: float | None = None
    notes: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()

    @property
    def last_residual(self) -> float:
        """The residual after the last step; NaN if there is none."""
        return math.nan if self.residual is None else self.residual

    @property
    def seconds(self) -> float:
        """Time that all steps took."""
        return sum(attempt.seconds for attempt in self.attempts)


class Marker(Frozen):
    """The document that makes a snapshot complete: it is written last, and names all files.

    Attributes:
        version: version of this format.
        name: name of the snapshot.
        run: identity of the run (`ddip_ray.engine.provenance.identity`).
        progress: how far the run had come.
        parts: the files of each worker.
    """

    version: Literal[1] = 1
    name: str
    run: dict[str, Any]
    progress: Progress
    parts: tuple[SlabFiles, ...]


@dataclass(frozen=True)
class Snapshots:
    """All snapshots of the run that writes one output, in ``folder`` beside it. Can be pickled."""

    folder: str

    @classmethod
    def beside(cls, output: str) -> Snapshots:
        """The snapshots of the run that writes ``output``."""
        return cls(f"{paths.absolute(output)}.snapshots")

    @staticmethod
    def new_name(step: int) -> str:
        """A name for a snapshot after ``step`` steps. Names sort by step, and no two attempts share one."""
        return f"step-{step:06d}-{secrets.token_hex(4)}"

    def write_part(self, name: str, slab: Slab, record: Record) -> SlabFiles:
        """Write the state of one worker. It is not found before `publish`.

        Raises:
            InputError: there is no space, or no access.
        """
        below = f"{name}/{slab.start:06d}"

        def stored(key: str, tensor: torch.Tensor) -> StoredArray:
            return write_array(self.folder, f"{below}/{key}.npy", tensor.resolve_conj().cpu().numpy())

        slices = {
            key: StoredRows(start=rows.slab.start, stop=rows.slab.stop, array=stored(key, rows.tensor))
            for key, rows in record.slices.items()
        }
        shared = {key: stored(key, tensor) for key, tensor in record.shared.items()}
        return SlabFiles(start=slab.start, stop=slab.stop, slices=slices, shared=shared, values=record.values)

    def publish(self, marker: Marker) -> None:
        """Make a snapshot visible; every worker has written its part."""
        write_document(self.folder, marker.name, marker)

    def keep_only(self, names: Collection[str]) -> None:
        """Delete all other snapshots, and the files of those that were never published."""
        delete_all_but(self.folder, set(names))

    def delete_named(self, names: Collection[str]) -> None:
        """Delete some snapshots, if they are still there."""
        if names:
            self.keep_only([marker.name for marker in self.found() if marker.name not in names])

    def found(self) -> list[Marker]:
        """All complete snapshots, the last one first."""
        return read_documents(self.folder, Marker)

    def read(self, marker: Marker, slab: Slab) -> Record:
        """The state of the slices in ``slab``, whichever workers wrote it.

        Raises:
            DamagedSnapshot: a file is missing, or is not as it was written.
        """
        parts = [part for part in marker.parts if part.start < slab.stop and slab.start < part.stop]
        return Record.joined([self._record(part) for part in parts])

    def _record(self, part: SlabFiles) -> Record:
        def tensor(stored: StoredArray) -> torch.Tensor:
            return torch.from_numpy(read_array(self.folder, stored))

        slices = {
            key: SliceRows(Slab(rows.start, rows.stop), tensor(rows.array))
            for key, rows in part.slices.items()
        }
        return Record(slices, {key: tensor(stored) for key, stored in part.shared.items()}, part.values)

    def delete(self) -> None:
        """Delete all snapshots."""
        paths.delete_tree(self.folder)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """The entries in which two documents differ, each as "name: 50 there, 30 here"."""
    for key in sorted(a.keys() | b.keys()):
        there, here = a.get(key), b.get(key)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            yield from (f"{key}.{text}" for text in differences(there, here))
        elif there != here:
            yield f"{key}: {there!r} there, {here!r} here"
