"""The steps of a run on one group of workers, from where the last group stopped."""

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
from ddip_ray.engine.worker import Worker
from ddip_ray.errors import InputError, Interrupted
from ddip_ray.io.stores.snapshot_files import DamagedSnapshot
from ddip_ray.solvers.core.method import StepReport

_NUM_SHOWN = 5  # differences between two runs


@dataclass(kw_only=True)
class StepLoop:
    """The loop over a method's steps, which all workers make together.

    Attributes:
        workers: the workers, which have started.
        num_workers: number of workers.
        num_steps: number of steps the method makes at most.
        identity: method, settings, prior, adapter and acquisition: what a snapshot must share with the run.
        snapshots: where snapshots are looked for and written.
        timer: says when a snapshot is due.
        on_event: called after each step, and with messages for the user.
        should_stop: asked after each step; True ends the loop with a snapshot.
        kept: names of the run's snapshots, the oldest first.
    """

    workers: Executor
    num_workers: int
    num_steps: int
    identity: dict[str, Any]
    snapshots: Snapshots
    timer: SnapshotTimer
    on_event: Callable[[Event], None]
    should_stop: Callable[[], bool]
    kept: list[str] = field(default_factory=list)

    def run_steps(self) -> Progress:
        """Make all steps that are left, with a snapshot whenever one is due.

        Raises:
            InputError: the snapshots belong to another run.
            Interrupted: ``should_stop`` returned True; a snapshot holds what was done.
        """
        resumed, started = self.resume(), time.monotonic()
        now = resumed
        self.timer.started(now.step)
        while not now.is_done:
            report = self.workers.each(partial(Worker.step, i=now.step))[0]
            now = self.advanced(resumed, now, report, time.monotonic() - started)
            self.report(resumed, now, report)
            if self.should_stop() and not now.is_done:
                self.interrupt(now)
            # The last step gets a snapshot, too, if others had: the result may fail to be written.
            if self.timer.is_due(now.step) or (now.is_done and self.kept):
                self.snapshot(now)
        return now

    def advanced(self, resumed: Progress, now: Progress, report: StepReport, seconds: float) -> Progress:
        """The progress after one more step.

        Args:
            resumed: the progress with which these workers began.
            now: the progress before the step.
            report: how the step went.
            seconds: time since these workers began.
        """
        step = now.step + 1
        attempt = Attempt(
            first_step=resumed.step, stop_step=step, num_workers=self.num_workers, seconds=seconds
        )
        return Progress(
            step=step,
            is_done=report.last or step == self.num_steps,
            residual=report.residual if math.isfinite(report.residual) else None,
            notes=(*now.notes, *([report.note] if report.note else [])),
            attempts=(*resumed.attempts, attempt),
        )

    def report(self, resumed: Progress, now: Progress, report: StepReport) -> None:
        """Tell whoever watches the run about the step that was made."""
        seconds = now.attempts[-1].seconds
        left = seconds / (now.step - resumed.step) * (self.num_steps - now.step)
        self.on_event(StepEvent(now.step, self.num_steps, report.residual, report.loss, seconds, left))

    def interrupt(self, now: Progress) -> None:
        """Write a snapshot and end the run.

        Raises:
            Interrupted: always; it says whether the run can be resumed.
        """
        done = f"interrupted after step {now.step} of {self.num_steps}"
        if self.snapshot(now):
            raise Interrupted(f"{done}, which {self.snapshots.folder} holds", can_resume=True)
        earlier = f"; {self.snapshots.folder} holds an earlier one" if self.kept else ""
        raise Interrupted(f"{done}, but no snapshot could be written{earlier}", bool(self.kept))

    def snapshot(self, now: Progress) -> bool:
        """Write a snapshot and delete those it replaces.

        Returns:
            Whether the snapshot could be written. The run goes on without it: it is not needed to end well.
        """
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
        """Delete snapshots that are not needed any more; a failure costs only space."""
        try:
            self.snapshots.keep_only(self.kept)
        except (InputError, OSError, ValueError) as error:
            self.on_event(Message(f"{self.snapshots.folder}: {error}"))

    def resume(self) -> Progress:
        """Restore the workers from the last readable snapshot; without one, they begin at step 0.

        Raises:
            InputError: the snapshot belongs to another run.
        """
        for marker in self.snapshots.found():
            self.require_same_run(marker)
            try:
                self.workers.each(partial(Worker.load, snapshots=self.snapshots, marker=marker))
            except DamagedSnapshot as error:
                self.on_event(Message(f"snapshot of step {marker.progress.step} left out: {error}"))
                continue
            self.workers.each(Worker.restore)
            self.kept = [marker.name]
            self.on_event(Message(f"going on after step {marker.progress.step} of {self.num_steps}"))
            return marker.progress
        return Progress()

    def require_same_run(self, marker: Marker) -> None:
        """Refuse a snapshot of another run.

        Raises:
            InputError: settings, prior, adapter or acquisition differ; the message says in what.
        """
        there = {**marker.run, "settings": with_new_names(marker.run["settings"])}
        found = list(differences(there, self.identity))
        if found:
            more = f"; and {len(found) - _NUM_SHOWN} more" if len(found) > _NUM_SHOWN else ""
            raise InputError(
                f"{self.snapshots.folder}: of another run: {'; '.join(found[:_NUM_SHOWN])}{more}",
                HOW_TO_GO_ON,
            )
