"""Which snapshots a run goes on from, and which it keeps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import LOCAL, Stop, config, folder, stopped, volume

from ddip_ray.engine.events import Event, Message
from ddip_ray.engine.run import Resilience
from ddip_ray.engine.snapshots.store import Snapshots
from ddip_ray.errors import InputError, Interrupted
from ddip_ray.io.stores import snapshot_files


def test_another_run_is_refused(small_scan: Path, prior: str, tmp_path: Path) -> None:
    settings = config("dds", prior)
    stopped(small_scan, "out", settings, 1, **LOCAL)
    before = sorted(small_scan.parent.rglob("*"))
    other = settings.model_copy(update={"sampler": settings.sampler.model_copy(update={"num_steps": 5})})
    with pytest.raises(
        InputError,
        match=r"snapshots: of another run: settings\.sampler\.num_steps: 4 there, 5 here.*`restart=True`",
    ):
        volume(small_scan, "out", other, **LOCAL)
    with pytest.raises(InputError, match=r"prior: '\w+' there, None here; settings\.method: 'dds' there"):
        volume(small_scan, "out", config("cg", prior), **LOCAL)
    assert sorted(small_scan.parent.rglob("*")) == before
    begun = volume(small_scan, "out", other, resilience=Resilience(restart=True), **LOCAL)
    np.testing.assert_array_equal(begun, volume(small_scan, "whole", other, **LOCAL))


def test_another_prior_is_refused(small_scan: Path, prior: str, tmp_path: Path) -> None:
    import torch

    from ddip_ray.prior.load import load_prior, save_prior
    from ddip_ray.prior.training.train import SCHEDULE

    own = tmp_path / "prior"
    shutil.copytree(prior, own)
    settings = config("dds", str(own))
    stopped(small_scan, "out", settings, 1, **LOCAL)
    network = load_prior(own).network
    with torch.no_grad():
        next(network.parameters()).add_(0.1)
    shutil.rmtree(own)
    save_prior(own, network, SCHEDULE, {"image_range": [-1.0, 1.0]})
    with pytest.raises(InputError, match=r"of another run: prior: '[0-9a-f]{64}' there, '[0-9a-f]{64}' here"):
        volume(small_scan, "out", settings, **LOCAL)


def test_other_measurements_are_refused(small_scan: Path, prior: str) -> None:
    import tensorstore

    stopped(small_scan, "out", config("dds", prior), 1, **LOCAL)
    path = {"driver": "file", "path": str(small_scan / "measurements")}
    array = tensorstore.open({"driver": "zarr3", "kvstore": path}).result()
    array[9, 3, 5] = 1e-3 + array[9, 3, 5].read().result()
    with pytest.raises(InputError, match=r"made of other measurements of .*, 1 slices, the first 9"):
        volume(small_scan, "out", config("dds", prior), **LOCAL)


@pytest.mark.parametrize("what", ["a byte", "a file", "the marker"])
def test_a_damaged_snapshot(small_scan: Path, prior: str, what: str) -> None:
    settings, events = config("dds", prior), list[Event]()
    whole = volume(small_scan, "whole", settings, **LOCAL)
    stopped(small_scan, "out", settings, 3, resilience=Resilience("2"), **LOCAL)
    last = sorted(folder(small_scan, "out").glob("*.json"))[-1]
    assert last.name.startswith("step-000003")
    file = sorted(last.with_suffix("").rglob("*.npy"))[0]
    if what == "a byte":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(bytes(data))
    elif what == "a file":
        file.unlink()
    else:
        last.write_bytes(last.read_bytes()[:-40])
    found = volume(small_scan, "out", settings, on_event=events.append, **LOCAL)
    np.testing.assert_array_equal(found, whole)
    words = [event.text for event in events if isinstance(event, Message)]
    assert words[-1] == "going on after step 2 of 4"
    if what != "the marker":
        assert words[0].startswith("snapshot of step 3 left out: ")
        assert str(file) in words[0]


def test_none_that_can_be_read(small_scan: Path, prior: str) -> None:
    """The run begins anew, and its own snapshots take the place of the others."""
    settings = config("dds", prior)
    whole = volume(small_scan, "whole", settings, **LOCAL)
    stopped(small_scan, "out", settings, 3, **LOCAL)
    for file in folder(small_scan, "out").rglob("*.npy"):
        file.unlink()
    stopped(small_scan, "out", settings, 1, resilience=Resilience("1"), **LOCAL)
    events: list[Event] = []
    found = volume(small_scan, "out", settings, on_event=events.append, **LOCAL)
    np.testing.assert_array_equal(found, whole)
    assert events[0] == Message("going on after step 1 of 4")


@pytest.mark.usefixtures("processes")
def test_two_are_kept(small_scan: Path, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    keep_only = Snapshots.keep_only

    def watched(self: Snapshots, names: Any) -> None:
        keep_only(self, names)
        seen.append(sorted(path.name[:11] for path in Path(self.folder).iterdir()))

    monkeypatch.setattr(Snapshots, "keep_only", watched)
    volume(small_scan, "out", config("dds", prior), resilience=Resilience("1"), num_workers=2)
    one, two = ["step-000001"] * 2, ["step-000002"] * 2  # marker and folder
    assert seen == [one, one + two, two + ["step-000003"] * 2, ["step-000003"] * 2 + ["step-000004"] * 2]


def test_no_space_for_a_snapshot(small_scan: Path, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, events = config("dds", prior), list[Event]()
    whole = volume(small_scan, "whole", settings, **LOCAL)
    write = snapshot_files.paths.write_bytes

    def full(path: Any, key: str, data: bytes) -> None:
        if ".snapshots" in str(path) and "x0" in key:
            raise InputError(f"{path}: no space left on the disk")
        write(path, key, data)

    monkeypatch.setattr(snapshot_files.paths, "write_bytes", full)
    found = volume(small_scan, "out", settings, resilience=Resilience("1"), on_event=events.append, **LOCAL)
    np.testing.assert_array_equal(found, whole)
    words = [event.text for event in events if isinstance(event, Message)]
    assert len(words) == 4
    assert all("no snapshot after step" in text and "no space left" in text for text in words)
    stop = Stop(1)
    with pytest.raises(Interrupted, match="no snapshot could be written") as error:
        volume(small_scan, "other", settings, should_stop=stop, on_event=stop.events.append, **LOCAL)
    assert not error.value.can_resume
