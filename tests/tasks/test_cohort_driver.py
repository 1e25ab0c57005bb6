"""Which volume gets how many workers, and what becomes of those that fail: reconstructions are pretended."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddip_ray.config.load import load_config
from ddip_ray.engine.events import Event, Message
from ddip_ray.engine.planning.memory import worker_bytes
from ddip_ray.errors import InputError, Interrupted, Unavailable, WorkersLost
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.tasks.cohort.driver import Cohort, Times
from ddip_ray.tasks.cohort.ledger import LEASE, Entry, Ledger, VolumeState
from ddip_ray.tasks.cohort.slots import Slots
from ddip_ray.tasks.cohort.volumes import find_volumes

Pretend = Callable[..., None]


@pytest.fixture
def scans(small_scan: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for name in "abc":
        shutil.copytree(small_scan, folder / f"{name}.zarr")
    return folder


def drive(
    scans: Path,
    pretend: Pretend,
    *,
    slots: int = 2,
    memory: int = 2**40,
    lease: float = LEASE,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Ledger, list[str]]:
    """The ledger at the end, and what was said; ``pretend`` is called instead of a reconstruction."""
    said = list[str]()
    folder = scans.parent / "out"
    ledger = Ledger.begin(folder, {}, lease)
    ledger.add(find_volumes(str(scans), {"method": "cg"}, folder))

    def say(name: str, event: Event) -> None:
        assert isinstance(event, Message)
        said.append(f"{name}: {event.text}")

    def attempt(
        entry: Entry, number: int, on_event: Callable[[Event], None], lost: Callable[[], bool]
    ) -> dict[str, Any]:
        pretend(entry.name, number, entry.attempts, lost)
        return {"state": VolumeState.DONE, "seconds": 1.0}

    times = Times(beat=0.05, poll=0.02, back_off=0.05)
    Cohort(
        *(ledger, Slots(slots, False, 1, memory), 3, attempt, should_stop, say),
        times=times,
        connect=lambda number: contextlib.nullcontext(),
    ).run()
    return ledger, said


def test_no_more_at_a_time_than_there_are_slots(scans: Path) -> None:
    now, most, lock = [0], [0], threading.Lock()

    def pretend(name: str, number: int, attempt: int, lost: Callable[[], bool]) -> None:
        with lock:
            now[0] += number
            most[0] = max(most[0], now[0])
        time.sleep(0.1)
        with lock:
            now[0] -= number

    ledger, _ = drive(scans, pretend)
    assert [entry.state for entry in ledger.entries()] == [VolumeState.DONE] * 3
    assert most == [2]


def test_free_workers_go_to_the_last_volume(scans: Path) -> None:
    given = dict[str, int]()
    drive(scans, lambda name, number, *_: given.update({name: number}), slots=9)
    assert given == {"a": 3, "b": 3, "c": 3}


def test_a_volume_that_needs_more_memory_gets_more_workers(scans: Path) -> None:
    acquisition, config = open_acquisition(str(scans / "a.zarr")), load_config(None, {"method": "cg"})
    third = worker_bytes(acquisition, config, 4, "cpu")
    given = list[int]()
    drive(scans, lambda name, number, *_: given.append(number), slots=4, memory=third)
    assert given == [3, 3, 4]  # the last one has all that is free
    shutil.rmtree(scans.parent / "out")
    ledger, _ = drive(scans, lambda *_: None, slots=2, memory=third)
    assert all(entry.state == VolumeState.FAILED for entry in ledger.entries())
    assert "needs 3 workers of" in ledger.entries()[0].error


def test_machines_are_tried_again_and_mistakes_are_not(scans: Path) -> None:
    def pretend(name: str, number: int, attempt: int, lost: Callable[[], bool]) -> None:
        if name == "a" and attempt < 3:
            raise WorkersLost("worker 0 was lost")
        if name == "b":
            raise RuntimeError("a bug")
        if name == "c":
            raise InputError("a NaN")

    ledger, said = drive(scans, pretend)
    a, b, c = ledger.entries()
    assert (a.state, a.attempts) == (VolumeState.DONE, 3)
    assert (b.state, b.attempts, b.error) == (VolumeState.FAILED, 3, "RuntimeError: a bug")
    assert (c.state, c.attempts, c.error) == (VolumeState.FAILED, 1, "a NaN")
    assert said.count("a: failed: WorkersLost: worker 0 was lost") == 2


def test_what_is_interrupted_waits_as_if_it_had_not_been_tried(scans: Path) -> None:
    asked = threading.Event()

    def pretend(name: str, number: int, attempt: int, lost: Callable[[], bool]) -> None:
        asked.set()
        raise Interrupted("after step 1", can_resume=True)

    with pytest.raises(Interrupted):
        drive(scans, pretend, should_stop=asked.is_set)
    ledger = Ledger(scans.parent / "out")
    assert all((e.state, e.attempts) == (VolumeState.WAITING, 0) for e in ledger.entries())


def test_a_driver_lets_go_of_what_another_has_taken_over(scans: Path) -> None:
    for name in "bc":
        shutil.rmtree(scans / f"{name}.zarr")

    def pretend(name: str, number: int, attempt: int, lost: Callable[[], bool]) -> None:
        with Ledger(scans.parent / "out")._transaction() as db:
            db.execute("UPDATE volumes SET owner = 'elsewhere:1'")
        while not lost():
            time.sleep(0.01)
        raise Interrupted("taken over")

    ledger, said = drive(scans, pretend)
    (entry,) = ledger.entries()
    assert (entry.owner, entry.state, entry.attempts) == ("elsewhere:1", VolumeState.RUNNING, 1)
    assert said[-1] == "a: taken over"


def test_a_driver_that_was_asleep_does_not_begin_its_own_volumes_again(scans: Path) -> None:
    begun = list[str]()

    def pretend(name: str, number: int, attempt: int, lost: Callable[[], bool]) -> None:
        begun.append(name)
        time.sleep(0.3)

    drive(scans, pretend, slots=4, lease=-1.0)
    assert sorted(begun) == ["a", "b", "c"]


def test_a_ledger_that_is_away_for_a_while(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update, away = Ledger.update, iter([True, False, True, True, False, True])

    def sometimes(self: Ledger, name: str, owner: str, **values: Any) -> bool:
        if next(away, False):
            raise Unavailable("cohort.sqlite: database is locked")
        return update(self, name, owner, **values)

    monkeypatch.setattr(Ledger, "update", sometimes)
    ledger, said = drive(scans, lambda *_: None)
    assert [(entry.state, entry.attempts) for entry in ledger.entries()] == [(VolumeState.DONE, 1)] * 3
    assert said.count("cohort: cohort.sqlite: database is locked") == 4


def test_what_a_dead_driver_elsewhere_had_is_waited_for(scans: Path) -> None:
    folder = scans.parent / "out"
    ledger = Ledger.begin(folder, {})
    ledger.add(find_volumes(str(scans), {"method": "cg"}, folder))
    assert ledger.claim("elsewhere:1") is not None
    ledger, _ = drive(scans, lambda *_: None, lease=1.0)
    assert [(entry.state, entry.deaths) for entry in ledger.entries()] == [
        (VolumeState.DONE, 1),
        (VolumeState.DONE, 0),
        (VolumeState.DONE, 0),
    ]
