"""Snapshots of a run, from which it goes on: every worker's state, and a marker that says it is whole."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.schema import Frozen
from ddip_ray.io.snapshot_files import (
    StoredArray,
    delete_all_but,
    read_array,
    read_documents,
    write_array,
    write_document,
)
from ddip_ray.solvers.slab import Slab
from ddip_ray.solvers.state import Record, SliceRows

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

    version: int = 1
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


class SnapshotTimer:
    """Says when a snapshot is due: after so many steps, or so many seconds, at 3 % of the time at most.

    Args:
        num_steps: None: by time.
        seconds: None: by steps. Both None: never.
    """

    SHARE = 0.03

    def __init__(self, num_steps: int | None, seconds: float | None) -> None:
        self.num_steps, self.seconds = num_steps, seconds
        self.last_step, self.last_time, self.cost = 0, time.monotonic(), 0.0

    @classmethod
    def every(cls, words: str) -> SnapshotTimer:
        """From "20" (steps), "90s", "10m", "1.5h" or "never"; InputError for anything else."""
        if words == "never":
            return cls(None, None)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", words)
        if match is None or float(match[1]) <= 0 or not (match[2] or match[1].isdigit()):
            raise InputError(
                f"--snapshot-every: found {words!r}, expected a number of steps, or of s, m or h",
                "For example 20, 90s or 10m; never for none.",
            )
        if not match[2]:
            return cls(int(match[1]), None)
        return cls(None, float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])

    def started(self, step: int) -> None:
        self.last_step, self.last_time = step, time.monotonic()

    def is_due(self, step: int) -> bool:
        if self.num_steps is not None:
            return step - self.last_step >= self.num_steps
        passed = time.monotonic() - self.last_time
        return self.seconds is not None and passed >= max(self.seconds, self.cost / self.SHARE)

    def wrote(self, step: int, seconds: float) -> None:
        self.cost = seconds
        self.started(step)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Where two documents differ: "name: 50 there, 30 here"."""
    for key in sorted(a.keys() | b.keys()):
        there, here = a.get(key), b.get(key)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            yield from (f"{key}.{text}" for text in differences(there, here))
        elif there != here:
            yield f"{key}: {there!r} there, {here!r} here"
