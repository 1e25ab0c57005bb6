"""The driver of a cohort: it reconstructs volumes side by side until none is left."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ddip_ray.config.load import load_config
from ddip_ray.engine.events import Event, Message, StepEvent
from ddip_ray.engine.planning.memory import fewest_workers
from ddip_ray.engine.ray.cluster import connected
from ddip_ray.errors import InputError, Interrupted, Unavailable
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.tasks.cohort.attempt import Attempt, Say
from ddip_ray.tasks.cohort.ledger import Entry, Ledger, VolumeState, this_driver
from ddip_ray.tasks.cohort.slots import Slots
from ddip_ray.units import format_bytes


@dataclass(frozen=True)
class Times:
    """Times of a driver in seconds.

    Attributes:
        beat: Time between two signs of life in the ledger.
        poll: Longest time to wait for an attempt to end before looking for new work.
        back_off: Time before a volume's second attempt; it doubles before each further one.
    """

    beat: float = 20.0
    poll: float = 0.5
    back_off: float = 30.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt: values for the ledger, and words for the user."""

    entry: Entry
    num_slots: int
    values: dict[str, Any]
    words: str
    may_retry: bool = False
    was_interrupted: bool = False


@dataclass
class Cohort:
    """A driver of the volumes in a ledger; other drivers may work on the same ledger, here and elsewhere.

    Attributes:
        ledger: The volumes and their states.
        slots: What there is to compute on.
        max_attempts: Attempts at a volume whose workers or machine fail.
        attempt: Reconstructs one volume, usually a `VolumeReconstruction`.
        should_stop: Whether to stop; volumes under way leave snapshots.
        say: Is told of everything that happens to a volume.
        times: Times between attempts and looks.
        connect: A context with the given number of Ray workers.
    """

    ledger: Ledger
    slots: Slots
    max_attempts: int
    attempt: Attempt
    should_stop: Callable[[], bool]
    say: Say
    times: Times = Times()
    connect: Callable[[int], AbstractContextManager[object]] = connected
    running: dict[str, Entry] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)  # names of volumes that another driver has taken over
    steps: dict[str, StepEvent] = field(default_factory=dict)
    outcomes: queue.SimpleQueue[Outcome] = field(default_factory=queue.SimpleQueue)
    unwritten: list[Outcome] = field(default_factory=list)
    held: Entry | None = None  # claimed, and waiting for enough free slots
    is_over: bool = False  # threads that still work do so in vain

    def run(self) -> None:
        """Work until no volume waits, or ``should_stop``.

        Raises:
            Interrupted: ``should_stop`` ended the work.
            InputError: the ledger cannot be read.
        """
        self.owner, self.free, self.begun = this_driver(), self.slots.number, time.time()
        if self.is_done():
            return
        with self.connect(self.slots.number):
            try:
                self.work_until_done()
            finally:
                self.is_over = True  # before the workers go, so that nobody replaces them
        if self.should_stop():
            raise Interrupted(f"interrupted; {self.ledger.path} holds how far it came", can_resume=True)

    def work_until_done(self) -> None:
        """The loop: give signs of life, start volumes, record outcomes."""
        last_beat = -math.inf
        while True:
            try:
                if time.monotonic() - last_beat > self.times.beat:
                    self.beat()
                    last_beat = time.monotonic()
                if not self.should_stop():
                    self.start_what_fits()
                elif self.held is not None:
                    self.ledger.interrupted(self.held, self.owner)
                    self.held = None
                for outcome in list(self.unwritten):
                    self.record(outcome)
                if not self.running and (self.should_stop() or self.is_done()):
                    return
            except Unavailable as error:  # the ledger may be available again in a while
                self.say("cohort", Message(str(error)))
            self.collect()

    def start_what_fits(self) -> None:
        """Start volumes on free slots, the largest first; one that needs more slots than are free waits."""
        while self.free > 0:
            self.held = entry = self.held or self.ledger.claim(self.owner, self.running)
            if entry is None:
                return
            try:
                number = self.slots_for(entry)
            except Exception as error:  # one bad volume must not stop the others
                self.running[entry.name], self.held = entry, None
                self.unwritten.append(failure(entry, 0, error))
                continue
            if number > self.free:
                return
            if self.ledger.update(entry.name, self.owner, num_workers=number):
                self.free -= number
                self.running[entry.name] = entry
                self.lost.discard(entry.name)
                self.say(entry.name, Message(f"started, attempt {entry.attempts}, {number} worker(s)"))
                threading.Thread(target=self.work_on, args=(entry, number), daemon=True).start()
            self.held = None

    def slots_for(self, entry: Entry) -> int:
        """The slots for a volume: those its memory needs, and more if no other volume waits for them.

        Raises:
            InputError: the volume needs more slots than there are, or its store is damaged.
        """
        acquisition = open_acquisition(entry.store)
        config, device = load_config(None, entry.settings), "cuda" if self.slots.on_gpus else "cpu"
        needed = fewest_workers(acquisition, config, self.slots.memory, device)
        if needed > self.slots.number:
            raise InputError(
                f"{entry.store}: needs {needed} workers of {format_bytes(self.slots.memory)} each, "
                f"there are {self.slots.number}"
            )
        waiting = self.ledger.num_waiting(self.owner)
        shards = -(-acquisition.num_slices // acquisition.shard_slices)
        return min(max(needed, self.free // (waiting + 1)), shards)

    def is_done(self) -> bool:
        """Whether nothing waits, and other drivers give signs of life for what they work on."""
        if self.held is not None or self.ledger.num_waiting(self.owner):
            return False
        running = [entry for entry in self.ledger.entries() if entry.state == VolumeState.RUNNING]
        return all(entry.owner == self.owner or entry.seen > self.begun for entry in running)

    def collect(self) -> None:
        """Wait a while for an attempt to end, and free its slots."""
        try:
            outcome = self.outcomes.get(timeout=self.times.poll)
        except queue.Empty:
            return
        self.free += outcome.num_slots
        self.unwritten.append(outcome)

    def record(self, outcome: Outcome) -> None:
        """Write the outcome of an attempt into the ledger."""
        entry = outcome.entry
        tries = entry.attempts - entry.deaths
        if outcome.was_interrupted:
            self.ledger.interrupted(entry, self.owner)
        elif outcome.may_retry and tries < self.max_attempts:
            wait = self.times.back_off * 2 ** (tries - 1)
            self.ledger.give_up(entry.name, self.owner, outcome.values["error"], wait=wait)
        elif not self.ledger.update(entry.name, self.owner, **outcome.values):
            self.say(entry.name, Message("another driver has it now"))
        self.unwritten.remove(outcome)
        del self.running[entry.name]
        self.say(entry.name, Message(outcome.words))

    def beat(self) -> None:
        """Tell the ledger the progress, and note volumes that another driver has taken over."""
        held = [] if self.held is None else [self.held.name]
        for name in [*self.running, *held]:
            step = self.steps.get(name)
            values = {} if step is None else {"step": step.step, "num_steps": step.num_steps}
            if not self.ledger.update(name, self.owner, **values):
                self.lost.add(name)
        if self.held is not None and self.held.name in self.lost:
            self.held = None

    def work_on(self, entry: Entry, number: int) -> None:
        """Make one attempt at a volume, in a thread of its own."""

        def on_event(event: Event) -> None:
            if isinstance(event, StepEvent):
                self.steps[entry.name] = event
            else:
                self.say(entry.name, event)

        def should_stop() -> bool:
            return self.should_stop() or self.is_over or entry.name in self.lost

        try:
            values = self.attempt(entry, number, on_event, should_stop)
        except Interrupted as error:
            outcome = Outcome(entry, number, {}, str(error), was_interrupted=True)
        except Exception as error:  # one bad volume must not stop the others
            outcome = failure(entry, number, error)
        else:
            outcome = Outcome(entry, number, values, f"done: {entry.output}")
        self.outcomes.put(outcome)


def failure(entry: Entry, num_slots: int, error: Exception) -> Outcome:
    """The outcome of a failed attempt; only failures of machines or of a full cluster are tried again."""
    is_mistake = isinstance(error, InputError)
    words = str(error) if is_mistake else f"{type(error).__name__}: {error}"
    values = {"state": VolumeState.FAILED, "error": words}
    may_retry = not is_mistake or isinstance(error, Unavailable)
    return Outcome(entry, num_slots, values, f"failed: {words}", may_retry=may_retry)
