"""Who works on which volume, whoever asks at the same time and whoever dies."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ddip_ray.errors import InputError
from ddip_ray.tasks.cohort.ledger import Entry, Ledger, VolumeState, this_driver

ELSEWHERE = "elsewhere:1"


def cohort(folder: Path, number: int = 3) -> Ledger:
    ledger = Ledger.begin(folder / "cohort", {"workers": 2})
    ledger.add([Entry(f"v{k}", f"/v{k}.zarr", f"/out/v{k}.zarr", num_bytes=k) for k in range(number)])
    return ledger


def states(ledger: Ledger) -> dict[str, VolumeState]:
    return {entry.name: entry.state for entry in ledger.entries()}


def test_the_largest_first_each_once(tmp_path: Path) -> None:
    ledger = cohort(tmp_path)
    assert [entry.name for entry in iter(lambda: ledger.claim(ELSEWHERE), None)] == ["v2", "v1", "v0"]
    assert set(states(ledger).values()) == {VolumeState.RUNNING}
    assert ledger.num_waiting(ELSEWHERE) == 0


def test_many_claim_at_once_and_nobody_gets_the_same(tmp_path: Path) -> None:
    ledger = cohort(tmp_path, 20)
    claimed = list[str]()

    def take(owner: str) -> None:
        while (entry := ledger.claim(owner)) is not None:
            claimed.append(entry.name)

    threads = [threading.Thread(target=take, args=(f"host{k}:1",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(f"v{k}" for k in range(20))


def test_what_happens_to_a_volume(tmp_path: Path) -> None:
    ledger = cohort(tmp_path, 2)
    assert ledger.claim(ELSEWHERE).name == "v1"  # type: ignore[union-attr]
    assert ledger.update("v1", ELSEWHERE, step=3, num_steps=9)
    assert not ledger.update("v1", "another:2", step=4)
    ledger.give_up("v1", ELSEWHERE, "worker 0 was lost", wait=3600)
    (v0, v1) = ledger.entries()
    assert (v1.state, v1.attempts, v1.step, v1.error) == (VolumeState.WAITING, 1, 3, "worker 0 was lost")
    claimed = ledger.claim(ELSEWHERE)
    assert claimed is not None
    assert claimed.name == "v0"
    assert ledger.claim(ELSEWHERE) is None  # v1 has to wait
    ledger.interrupted(claimed, ELSEWHERE)
    assert dataclasses.replace(ledger.entries()[0], seen=0.0, started=None) == dataclasses.replace(
        v0, owner=ELSEWHERE
    )
    assert ledger.claim(ELSEWHERE).name == "v0"  # type: ignore[union-attr]
    assert ledger.update("v0", ELSEWHERE, state=VolumeState.FAILED, error="NaN")
    assert not ledger.update("v0", ELSEWHERE, state=VolumeState.DONE)
    assert ledger.retry_failed() == 1
    assert ledger.entries()[0].attempts == 0
    assert ledger.claim(ELSEWHERE).name == "v0"  # type: ignore[union-attr]


def test_volumes_of_the_dead_and_of_the_silent_wait_again(tmp_path: Path) -> None:
    ledger = cohort(tmp_path, 3)
    program = f"""
from pathlib import Path
from ddip_ray.tasks.cohort.ledger import Ledger, this_driver
print(Ledger(Path({str(tmp_path / "cohort")!r})).claim(this_driver()).name)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert states(ledger)["v2"] == VolumeState.RUNNING
    assert ledger.claim(this_driver()).name == "v1"  # type: ignore[union-attr]
    assert ledger.claim(ELSEWHERE).name == "v0"  # type: ignore[union-attr]
    assert ledger.claim(this_driver()).name == "v2"  # type: ignore[union-attr]
    assert ledger.claim(this_driver()) is None
    ledger = Ledger(tmp_path / "cohort", lease=0.5)
    time.sleep(0.6)
    assert ledger.claim(this_driver()).name == "v0"  # type: ignore[union-attr]
    assert not ledger.update("v0", ELSEWHERE, step=1)
    *_, v2 = ledger.entries()
    assert (v2.attempts, v2.deaths) == (2, 1)  # its own driver is alive, and knows


def test_a_volume_with_which_drivers_die_comes_last_and_is_left_alone_in_the_end(tmp_path: Path) -> None:
    cohort(tmp_path, 2)
    ledger = Ledger(tmp_path / "cohort", lease=-1.0)
    claimed = [entry.name for k in range(4) if (entry := ledger.claim(f"elsewhere:{k}")) is not None]
    assert claimed == ["v1", "v0", "v1", "v0"]
    assert ledger.claim("elsewhere:9", but_not=["v1", "v0"]) is None
    while ledger.claim("elsewhere:4") and ledger.claim("elsewhere:5"):
        pass
    assert set(states(ledger).values()) == {VolumeState.FAILED}
    assert "5 drivers died" in ledger.entries()[0].error


def test_what_is_in_a_ledger_stays(tmp_path: Path) -> None:
    ledger = cohort(tmp_path, 1)
    again = Ledger.begin(tmp_path / "cohort", {"workers": 7})
    assert again.options == {"workers": 7}
    assert again.add([Entry("v0", "/v0.zarr", "/out/v0.zarr"), Entry("new", "/n.zarr", "/out/n.zarr")]) == 1
    with pytest.raises(InputError, match=r"cohort\.sqlite: v0 is there already, from /v0\.zarr"):
        ledger.add([Entry("x", "/x.zarr", "/o"), Entry("v0", "/v0.zarr", "/o", settings={"method": "tv"})])
    assert list(states(ledger)) == ["new", "v0"]


def test_no_ledger_or_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cohort"):
        Ledger(tmp_path)
    (tmp_path / "cohort.sqlite").write_text("something else, of some length, that is no database at all")
    with pytest.raises(InputError, match=r"cohort\.sqlite: file is not a database"):
        Ledger(tmp_path)
