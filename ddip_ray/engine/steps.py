"""The steps of a run on one group of workers, from where the last group left off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ddip_ray.config.renamed import with_new_names
from ddip_ray.engine.events import Event, Message, StepEvent
from ddip_ray.engine.executor import Executor
from ddip_ray.engine.snapshots.store import (
    HOW_TO_GO_ON,
    NUM_KEPT,
    Attempt,
    Marker,
    Progress,
    Snapshots,
    differences,
)
from ddip_ray.engine.snapshots.timer import SnapshotTimer
from ddip_ray.engine.worker import MethodFacts, Worker
from ddip_ray.errors import InputError, Interrupted
from ddip_ray.io.stores.snapshot_files import DamagedSnapshot

_NUM_SHOWN = 5  # of what differs


@dataclass
class Stepping:
    """``identity`` is the method, its settings, the prior and the acquisition: what a snapshot is of."""

    workers: Executor
    num_workers: int
    facts: MethodFacts
    identity: dict[str, Any]
    snapshots: Snapshots
    timer: SnapshotTimer
    on_event: Callable[[Event], None]
    should_stop: Callable[[], bool]
    kept: list[str] = field(default_factory=list)  # names of snapshots, the last one last

    def to_the_end(self) -> Progress:
        """All steps that are left, with a snapshot whenever one is due.

        Raises:
            InputError: there is a snapshot, of another run.
            Interrupted: ``should_stop``; what was done is in a snapshot.
        """
        begun, started = self.resumed(), time.monotonic()
        now = begun
        self.timer.started(begun.step)
        while not now.is_done:
            report = self.workers.each(partial(Worker.step, i=now.step))[0]
            seconds = time.monotonic() - started
            attempt = Attempt(
                first_step=begun.step, stop_step=now.step + 1, num_workers=self.num_workers, seconds=seconds
            )
            now = Progress(
                step=now.step + 1,
                is_done=report.last or now.step + 1 == self.facts.num_steps,
                residual=report.residual if math.isfinite(report.residual) else None,
                notes=(*now.notes, *([report.note] if report.note else [])),
                attempts=(*begun.attempts, attempt),
            )
            left = seconds / (now.step - begun.step) * (self.facts.num_steps - now.step)
            self.on_event(
                StepEvent(now.step, self.facts.num_steps, report.residual, report.loss, seconds, left)
            )
            if self.should_stop() and not now.is_done:
                self.interrupt(now)
            # A run long enough for snapshots has one of its end, too, lest the result cannot be written.
            if self.timer.is_due(now.step) or (now.is_done and self.kept):
                self.snapshot(now)
        return now

    def interrupt(self, now: Progress) -> None:
        done = f"interrupted after step {now.step} of {self.facts.num_steps}"
        if self.snapshot(now):
            raise Interrupted(f"{done}, which {self.snapshots.folder} holds", can_resume=True)
        earlier = f"; {self.snapshots.folder} holds an earlier one" if self.kept else ""
        raise Interrupted(f"{done}, of which no snapshot could be written{earlier}", bool(self.kept))

    def snapshot(self, now: Progress) -> bool:
        """Whether it could be written. Without one the run goes on: it needs none to end well."""
        started, name = time.monotonic(), self.snapshots.new_name(now.step)
        try:
            write = partial(Worker.snapshot, snapshots=self.snapshots, name=name)
            parts = tuple(self.workers.each(write))
            self.snapshots.publish(Marker(name=name, run=self.identity, progress=now, parts=parts))
        except (InputError, OSError, ValueError) as error:
            self.on_event(Message(f"no snapshot after step {now.step}: {error}"))
            return False
        else:
            self.kept = [*self.kept, name][-NUM_KEPT:]
        finally:
            self.tidy()
            self.timer.wrote(now.step, time.monotonic() - started)
        return True

    def tidy(self) -> None:
        """Snapshots that are not needed cost space, and nothing else."""
        try:
            self.snapshots.keep_only(self.kept)
        except (InputError, OSError, ValueError) as error:
            self.on_event(Message(f"{self.snapshots.folder}: {error}"))

    def resumed(self) -> Progress:
        """Where the last snapshot that can be read ends, with the workers in that state; or the start."""
        for marker in self.snapshots.found():
            self.require_same_run(marker)
            try:
                self.workers.each(partial(Worker.load, snapshots=self.snapshots, marker=marker))
            except DamagedSnapshot as error:
                self.on_event(Message(f"snapshot of step {marker.progress.step} left out: {error}"))
                continue
            self.workers.each(Worker.restore)
            self.kept = [marker.name]
            self.on_event(Message(f"going on after step {marker.progress.step} of {self.facts.num_steps}"))
            return marker.progress
        return Progress()

    def require_same_run(self, marker: Marker) -> None:
        there = {**marker.run, "settings": with_new_names(marker.run["settings"])}
        found = list(differences(there, self.identity))
        if found:
            more = f"; and {len(found) - _NUM_SHOWN} more" if len(found) > _NUM_SHOWN else ""
            raise InputError(
                f"{self.snapshots.folder}: of another run: {'; '.join(found[:_NUM_SHOWN])}{more}",
                HOW_TO_GO_ON,
            )
