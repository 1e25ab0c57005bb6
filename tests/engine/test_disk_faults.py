"""A disk that fills up while a run writes to it, and one that gives back something else than was written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from small_runs import LOCAL, config, folder, volume

from ddip_ray.engine.events import Event, Message, StepEvent
from ddip_ray.engine.run import Resilience
from ddip_ray.errors import InputError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a disk of its own needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill_up(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("method", ["dds", "d3ip"])
def test_a_full_disk(small_scan: Path, small_disk: Path, prior: str, method: str) -> None:
    """The run goes on without snapshots; its result cannot be written; with space again, the rest is made."""
    settings, filler = config(method, prior), small_disk / "filler"
    whole = volume(small_scan, "whole", settings, **LOCAL)
    store = small_disk / "vol.zarr"
    store.symlink_to(small_scan)
    (small_disk / "other.txt").write_text("kept")
    events = list[Event]()

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepEvent) and event.step == 3:
            fill_up(filler)

    with pytest.raises(InputError, match=r"out\.zarr.*no space left"):
        volume(store, "out", settings, resilience=Resilience("2"), on_event=watch, **LOCAL)
    messages = [event.text for event in events if isinstance(event, Message)]
    assert messages
    assert all(text.startswith("no snapshot after step") and "no space left" in text for text in messages)
    names = ["filler", "other.txt", "out.zarr.snapshots", "vol.zarr"]
    assert sorted(path.name for path in small_disk.iterdir()) == names
    filler.unlink()
    again = list[Event]()
    np.testing.assert_array_equal(
        volume(store, "out", settings, resilience=Resilience("2"), on_event=again.append, **LOCAL), whole
    )
    assert isinstance(again[0], Message)
    assert again[0].text.startswith("going on after step 2 of")
    assert not folder(store, "out").exists()


@pytest.mark.parametrize("damage", ["cut", "zeros", "a bit"])
def test_an_unreadable_shard(small_scan: Path, prior: str, damage: str) -> None:
    shard = next(path for path in (small_scan / "measurements" / "c").rglob("*") if path.is_file())
    data = bytearray(shard.read_bytes())
    middle = len(data) // 2
    match damage:
        case "cut":
            del data[middle:]
        case "zeros":
            data[middle - 8 : middle + 8] = bytes(16)
        case "a bit":
            data[middle] ^= 1
    shard.write_bytes(data)
    before = sorted(small_scan.parent.iterdir())
    with pytest.raises(InputError, match=r"vol\.zarr/measurements"):
        volume(small_scan, "out", config("dds", prior), **LOCAL)
    assert sorted(small_scan.parent.iterdir()) == before
