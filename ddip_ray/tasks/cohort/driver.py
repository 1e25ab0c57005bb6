"""Reconstruct the volumes of a cohort, several side by side, until none is left."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddip_ray.config.load import load_config
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import Event, Message, StepEvent
from ddip_ray.engine.planning.layout import Layout
from ddip_ray.engine.planning.memory import fewest_workers
from ddip_ray.engine.ray import resources
from ddip_ray.engine.ray.cluster import connected
from ddip_ray.engine.run import Resilience, reconstruct
from ddip_ray.engine.worker import ADAPTER_NAME
from ddip_ray.errors import InputError, Interrupted, Unavailable
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.result import load_file, open_result
from ddip_ray.tasks.cohort.adapter_library import AdapterLibrary
from ddip_ray.tasks.cohort.ledger import Entry, Ledger, State, this_driver
from ddip_ray.tasks.compare.compare import is_made
from ddip_ray.tasks.judge.evaluate import evaluate
from ddip_ray.units import format_bytes

BEAT = 20.0  # seconds between two words to the ledger about what is running
POLL = 0.5
NO_ADAPTER = "none"
BACK_OFF = 30.0  # seconds before the second attempt; twice as long before each that follows


@dataclass(frozen=True)
class Slots:
    """What there is to compute on: GPUs, or workers of a core each where ``on_gpus`` is false.

    ``num_threads`` is of each worker; ``memory`` the bytes that each has.
    """

    number: int
    on_gpus: bool
    num_threads: int
    memory: int

    @classmethod
    def asked_for(cls, num_workers: int | None, num_gpus: int | None) -> Slots:
        """Without either: all GPUs there are or, without any, all cores."""
        if num_workers is not None and num_gpus is not None:
            raise InputError("--gpus and --workers are one or the other", "One worker drives one GPU.")
        if num_workers is None and num_gpus is None:
            num_gpus = resources.num_gpus() or None
        if num_gpus is not None:
            resources.require_gpus(num_gpus)
            return cls(num_gpus, True, 1, resources.gpu_bytes())
        cores = resources.num_cores()
        number = num_workers or cores
        return cls(number, False, max(1, cores // number), resources.total_host_bytes() // number)


@dataclass(frozen=True)
class Outcome:
    """Of one attempt: what to write into the ledger, and what to say."""

    entry: Entry
    num_slots: int
    values: dict[str, Any]
    words: str
    may_retry: bool = False
    was_interrupted: bool = False


@dataclass
class Cohort:
    """A driver of the volumes in ``ledger``; others may work on the same, here and elsewhere."""

    ledger: Ledger
    slots: Slots
    max_attempts: int
    snapshot_every: str
    library: AdapterLibrary | None  # to start from and to teach; None: every volume by itself
    should_stop: Callable[[], bool]
    say: Callable[[str, Event], None]  # of a volume
    running: dict[str, Entry] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)  # names of volumes that are not this driver's any more
    steps: dict[str, StepEvent] = field(default_factory=dict)
    outcomes: queue.SimpleQueue[Outcome] = field(default_factory=queue.SimpleQueue)
    unwritten: list[Outcome] = field(default_factory=list)
    held: Entry | None = None  # claimed, until enough slots are free
    is_over: bool = False  # whatever a thread still does is of no use

    def run(self) -> None:
        """Until no volume waits, or ``should_stop``, which leaves those that are under way with snapshots.

        Raises:
            Interrupted: ``should_stop``.
            InputError: the ledger cannot be read.
        """
        self.owner, self.free, self.begun = this_driver(), self.slots.number, time.time()
        if self.is_at_its_end():
            return
        with connected(self.slots.number):
            try:
                self.until_the_end()
            finally:
                self.is_over = True  # before the workers go: nobody is to replace them
        if self.should_stop():
            raise Interrupted(f"interrupted; {self.ledger.path} holds how far it came", can_resume=True)

    def until_the_end(self) -> None:
        last_beat = -math.inf
        while True:
            try:
                if time.monotonic() - last_beat > BEAT:
                    self.beat()
                    last_beat = time.monotonic()
                if not self.should_stop():
                    self.start_what_fits()
                elif self.held is not None:
                    self.ledger.interrupted(self.held, self.owner)
                    self.held = None
                for outcome in list(self.unwritten):
                    self.write(outcome)
                if not self.running and (self.should_stop() or self.is_at_its_end()):
                    return
            except Unavailable as error:  # of the ledger, which may be there again in a while
                self.say("cohort", Message(str(error)))
            self.collect()

    def start_what_fits(self) -> None:
        """Volumes on free slots, the largest first; one that needs more than are free is waited for."""
        while self.free > 0:
            self.held = entry = self.held or self.ledger.claim(self.owner, self.running)
            if entry is None:
                return
            try:
                number = self.slots_for(entry)
            except Exception as error:  # as in `work`
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
                threading.Thread(target=self.work, args=(entry, number), daemon=True).start()
            self.held = None

    def slots_for(self, entry: Entry) -> int:
        """As many as its memory needs, and more when nobody else waits for them.

        Raises:
            InputError: there are not so many, or the store is damaged.
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

    def is_at_its_end(self) -> bool:
        """Nothing waits, and what other drivers have, they were heard of to work on."""
        if self.held is not None or self.ledger.num_waiting(self.owner):
            return False
        running = [entry for entry in self.ledger.entries() if entry.state == State.RUNNING]
        return all(entry.owner == self.owner or entry.seen > self.begun for entry in running)

    def collect(self) -> None:
        try:
            outcome = self.outcomes.get(timeout=POLL)
        except queue.Empty:
            return
        self.free += outcome.num_slots
        self.unwritten.append(outcome)

    def write(self, outcome: Outcome) -> None:
        """Into the ledger."""
        entry = outcome.entry
        tries = entry.attempts - entry.deaths
        if outcome.was_interrupted:
            self.ledger.interrupted(entry, self.owner)
        elif outcome.may_retry and tries < self.max_attempts:
            wait = BACK_OFF * 2 ** (tries - 1)
            self.ledger.give_up(entry.name, self.owner, outcome.values["error"], wait=wait)
        elif not self.ledger.update(entry.name, self.owner, **outcome.values):
            self.say(entry.name, Message("another driver has it now"))
        self.unwritten.remove(outcome)
        del self.running[entry.name]
        self.say(entry.name, Message(outcome.words))

    def beat(self) -> None:
        """Tell the ledger how far things are; find out what another driver has taken over."""
        held = [] if self.held is None else [self.held.name]
        for name in [*self.running, *held]:
            step = self.steps.get(name)
            values = {} if step is None else {"step": step.step, "num_steps": step.num_steps}
            if not self.ledger.update(name, self.owner, **values):
                self.lost.add(name)
        if self.held is not None and self.held.name in self.lost:
            self.held = None

    def work(self, entry: Entry, number: int) -> None:
        """One attempt, in a thread of its own."""
        try:
            values = self.reconstructed(entry, number)
        except Interrupted as error:
            outcome = Outcome(entry, number, {}, str(error), was_interrupted=True)
        except Exception as error:  # one bad volume must not stop the others
            outcome = failure(entry, number, error)
        else:
            outcome = Outcome(entry, number, values, f"done: {entry.output}")
        self.outcomes.put(outcome)

    def reconstructed(self, entry: Entry, number: int) -> dict[str, Any]:
        """What the ledger says of a volume that is done. A result that is there already is not made again."""
        config, acquisition = self.config_of(entry), open_acquisition(entry.store)

        def on_event(event: Event) -> None:
            if isinstance(event, StepEvent):
                self.steps[entry.name] = event
            else:
                self.say(entry.name, event)

        if not is_made(entry.output, config, acquisition):
            reconstruct(
                entry.store,
                entry.output,
                config,
                layout=Layout(
                    num_workers=None if self.slots.on_gpus else number,
                    num_gpus=number if self.slots.on_gpus else None,
                    executor="ray",
                    num_threads=self.slots.num_threads,
                ),
                resilience=Resilience(self.snapshot_every),
                on_event=on_event,
                should_stop=lambda: self.should_stop() or self.is_over or entry.name in self.lost,
            )
        made: Any = open_result(entry.output).provenance
        values = {"state": State.DONE, "seconds": made["seconds"]["total"], "residual": made["residual"]}
        try:  # what is done stays done
            if acquisition.has_reference:
                scores = evaluate(entry.output, acquisition=acquisition)
                values |= {"psnr": scores.psnr, "ssim": scores.ssim}
            if self.library is not None and can_start_warm(config):
                self.library.add(entry.tag, load_file(entry.output, ADAPTER_NAME), entry.name)
        except Exception as error:
            self.say(entry.name, Message(f"done, but not scored or taught by: {error}"))
        return values

    def config_of(self, entry: Entry) -> RunConfig:
        """With the adapter to start from, which stays the same in every attempt."""
        config = load_config(None, entry.settings)
        if self.library is None or not can_start_warm(config) or config.adapter is not None:
            return config
        adapter = entry.adapter
        if not adapter:
            adapter = str(self.library.latest(entry.tag) or NO_ADAPTER)
            self.ledger.update(entry.name, self.owner, adapter=adapter)
        if adapter == NO_ADAPTER:
            self.say(entry.name, Message(f"no adapter of {entry.tag} when it was begun: starts from none"))
            return config
        taught_by = ", ".join(self.library.volumes(Path(adapter)))
        self.say(entry.name, Message(f"starts from {adapter}, learned from {taught_by}"))
        return config.model_copy(update={"adapter": adapter})


def can_start_warm(config: RunConfig) -> bool:
    """Methods with one adapter for the volume, which they leave beside the result."""
    return config.row.adapts and config.row.adapter_is_shared


def failure(entry: Entry, num_slots: int, error: Exception) -> Outcome:
    """Mistakes stay; machines, and a cluster that is full, may do better another time."""
    is_mistake = isinstance(error, InputError)
    words = str(error) if is_mistake else f"{type(error).__name__}: {error}"
    values = {"state": State.FAILED, "error": words}
    may_retry = not is_mistake or isinstance(error, Unavailable)
    return Outcome(entry, num_slots, values, f"failed: {words}", may_retry=may_retry)
