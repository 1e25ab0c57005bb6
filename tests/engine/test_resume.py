"""Runs that are stopped, lose workers, or lose their driver end in the volume of an undisturbed run."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import config, volume

from ddip_ray.engine import ray_executor
from ddip_ray.engine.events import Event, Message, StepEvent
from ddip_ray.engine.executor import LocalExecutor
from ddip_ray.engine.run import reconstruct
from ddip_ray.engine.snapshots import Snapshots, SnapshotTimer
from ddip_ray.errors import InputError, Interrupted, WorkersLost
from ddip_ray.io import snapshot_files
from ddip_ray.io.result import open_result
from ddip_ray.solvers.settings import RunConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")

LOCAL: dict[str, Any] = {"executor": "local"}


class Stop:
    """Asks for an end after ``step`` steps."""

    def __init__(self, step: int) -> None:
        self.step, self.events = step, list[Event]()

    def __call__(self) -> bool:
        return len(self.steps) == self.step

    @property
    def steps(self) -> list[StepEvent]:
        return [event for event in self.events if isinstance(event, StepEvent)]


def stopped(store: Path, name: str, config: RunConfig, step: int, **layout: Any) -> None:
    stop = Stop(step)
    with pytest.raises(Interrupted, match=r"after step \d+ of") as error:
        volume(store, name, config, should_stop=stop, on_event=stop.events.append, **layout)
    assert error.value.can_resume


def folder(store: Path, name: str) -> Path:
    return store.parent / f"{name}.zarr.snapshots"


@pytest.mark.parametrize("method", ["dds", "d3ip"])
def test_stopped_and_gone_on(small_scan: Path, prior: str, method: str) -> None:
    settings = config(method, prior)
    whole = volume(small_scan, "whole", settings, **LOCAL)
    stopped(small_scan, "out", settings, 1, **LOCAL)
    assert not (small_scan.parent / "out.zarr").exists()
    stopped(small_scan, "out", settings, 2, **LOCAL)  # two more
    events: list[Event] = []
    np.testing.assert_array_equal(volume(small_scan, "out", settings, on_event=events.append, **LOCAL), whole)
    assert events[0] == Message(f"going on after step 3 of {events[1].num_steps}")  # type: ignore[union-attr]
    assert next(e.step for e in events if isinstance(e, StepEvent)) == 4
    assert not folder(small_scan, "out").exists()
    made = [open_result(str(small_scan.parent / f"{name}.zarr")).provenance for name in ("whole", "out")]
    assert made[0]["notes"] == made[1]["notes"]
    spans = [[attempt["first_step"], attempt["stop_step"]] for attempt in made[1]["attempts"]]  # type: ignore[union-attr,index,call-overload]
    assert spans == [[0, 1], [1, 3], [3, events[1].num_steps]]  # type: ignore[union-attr]


@pytest.mark.parametrize(("method", "bound"), [("dds", 0), ("d3ip-mbir", 1e-5), ("tv", 1e-5)])
def test_on_another_number_of_workers(small_scan: Path, prior: str, method: str, bound: float) -> None:
    settings = config(method, prior)
    whole = volume(small_scan, "whole", settings, **LOCAL)
    stopped(small_scan, "out", settings, 2, num_workers=2)
    stopped(small_scan, "out", settings, 1, num_workers=3)
    assert np.abs(volume(small_scan, "out", settings, **LOCAL) - whole).max() <= bound


def test_mri_on_another_number_of_workers(small_mri: Path, prior: str) -> None:
    settings = config("d3ip", prior)
    whole = volume(small_mri, "whole", settings, **LOCAL)
    stopped(small_mri, "out", settings, 6, num_workers=2)
    np.testing.assert_array_equal(volume(small_mri, "out", settings, **LOCAL), whole)


def kill_at(step: int, rank: int) -> Callable[..., Any]:
    """`RayExecutor.each` that loses a worker once, when it is to make a step."""
    each, calls = ray_executor.RayExecutor.each, [0]

    def killing(self: ray_executor.RayExecutor, do: Any) -> Any:
        import ray

        if isinstance(do, partial) and do.keywords.get("i") == step and calls[0] == 0:
            calls[0] = 1
            ray.kill(self.actors[rank])
        return each(self, do)

    return killing


@pytest.mark.parametrize(
    ("method", "rank", "every", "num_steps"),
    [("dds", 0, "2", 4), ("d3ip", 1, "2", 12), ("dds", 1, "never", 4)],
)
def test_lost_workers_are_replaced(
    small_scan: Path,
    prior: str,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    rank: int,
    every: str,
    num_steps: int,
) -> None:
    settings, events = config(method, prior), list[Event]()
    whole = volume(small_scan, "whole", settings, **LOCAL)
    monkeypatch.setattr(ray_executor.RayExecutor, "each", kill_at(3, rank))
    found = volume(small_scan, "out", settings, num_workers=2, snapshot_every=every, on_event=events.append)
    np.testing.assert_array_equal(found, whole)
    words = [event.text for event in events if isinstance(event, Message)]
    assert words[0].startswith(f"worker {rank} was lost: ")
    assert words[0].endswith("new workers take over (1 of 3)")
    assert words[1:] == ([f"going on after step 2 of {num_steps}"] if every == "2" else [])


def test_workers_lost_too_often(small_scan: Path, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config("dds", prior)
    whole = volume(small_scan, "whole", settings, **LOCAL)
    with monkeypatch.context() as patch:
        patch.setattr(ray_executor.RayExecutor, "each", kill_at(3, 1))
        with pytest.raises(WorkersLost, match="worker 1 was lost"):
            volume(small_scan, "out", settings, num_workers=2, snapshot_every="2", max_failures=0)
    assert sorted(path.name for path in small_scan.parent.iterdir()) == [
        "out.zarr.snapshots", "vol.zarr", "whole.zarr",
    ]  # fmt: skip
    events: list[Event] = []
    found = volume(small_scan, "out", settings, on_event=events.append, **LOCAL)
    np.testing.assert_array_equal(found, whole)
    assert events[0] == Message("going on after step 2 of 4")


def test_another_run_is_refused(small_scan: Path, prior: str, tmp_path: Path) -> None:
    settings = config("dds", prior)
    stopped(small_scan, "out", settings, 1, **LOCAL)
    before = sorted(small_scan.parent.rglob("*"))
    other = settings.model_copy(update={"sampler": settings.sampler.model_copy(update={"num_steps": 5})})
    with pytest.raises(
        InputError,
        match=r"snapshots: of another run: settings\.sampler\.num_steps: 4 there, 5 here.*--re",
    ):
        volume(small_scan, "out", other, **LOCAL)
    with pytest.raises(InputError, match=r"prior: '\w+' there, None here; settings\.method: 'dds' there"):
        volume(small_scan, "out", config("cg", prior), **LOCAL)
    assert sorted(small_scan.parent.rglob("*")) == before
    begun = volume(small_scan, "out", other, restart=True, **LOCAL)
    np.testing.assert_array_equal(begun, volume(small_scan, "whole", other, **LOCAL))


def test_another_prior_is_refused(small_scan: Path, prior: str, tmp_path: Path) -> None:
    import torch

    from ddip_ray.prior.network import load_prior, save_prior
    from ddip_ray.prior.training import SCHEDULE

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
    stopped(small_scan, "out", settings, 3, snapshot_every="2", **LOCAL)
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
    stopped(small_scan, "out", settings, 1, snapshot_every="1", **LOCAL)
    events: list[Event] = []
    found = volume(small_scan, "out", settings, on_event=events.append, **LOCAL)
    np.testing.assert_array_equal(found, whole)
    assert events[0] == Message("going on after step 1 of 4")


def test_two_are_kept(small_scan: Path, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    keep_only = Snapshots.keep_only

    def watched(self: Snapshots, names: Any) -> None:
        keep_only(self, names)
        seen.append(sorted(path.name[:11] for path in Path(self.folder).iterdir()))

    monkeypatch.setattr(Snapshots, "keep_only", watched)
    volume(small_scan, "out", config("dds", prior), snapshot_every="1", num_workers=2)
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
    found = volume(small_scan, "out", settings, snapshot_every="1", on_event=events.append, **LOCAL)
    np.testing.assert_array_equal(found, whole)
    words = [event.text for event in events if isinstance(event, Message)]
    assert len(words) == 4
    assert all("no snapshot after step" in text and "no space left" in text for text in words)
    stop = Stop(1)
    with pytest.raises(Interrupted, match="no snapshot could be written") as error:
        volume(small_scan, "other", settings, should_stop=stop, on_event=stop.events.append, **LOCAL)
    assert not error.value.can_resume


def test_a_result_that_could_not_be_written(
    small_scan: Path, prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps are not made again."""
    from ddip_ray.engine.worker import Worker

    settings, events = config("dds", prior), list[Event]()
    whole = volume(small_scan, "whole", settings, **LOCAL)

    def full(self: Worker, handle: Any) -> None:
        raise InputError("no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "write", full)
        with pytest.raises(InputError, match="no space left"):
            volume(small_scan, "out", settings, snapshot_every="3", **LOCAL)
    found = volume(small_scan, "out", settings, on_event=events.append, **LOCAL)
    np.testing.assert_array_equal(found, whole)
    assert events == [Message("going on after step 4 of 4")]


def test_an_early_end_is_an_end(small_scan: Path, prior: str) -> None:
    """A method that ended before its last step makes no more when its result is written later."""
    settings = config("tv", prior)
    settings = settings.model_copy(
        update={"tv": settings.tv.model_copy(update={"iterations": 50, "tol": 0.5})}
    )
    whole = volume(small_scan, "whole", settings, **LOCAL)
    executor = LocalExecutor.each

    def each(self: LocalExecutor, do: Any) -> Any:
        if isinstance(do, partial) and "handle" in do.keywords:
            raise InputError("no space left on the disk")
        return executor(self, do)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "each", each)
        with pytest.raises(InputError, match="no space left"):
            volume(small_scan, "out", settings, snapshot_every="1", **LOCAL)
    np.testing.assert_array_equal(volume(small_scan, "out", settings, **LOCAL), whole)


@pytest.mark.parametrize("words", ["", "0", "ten", "1.5", "-3m", "2d"])
def test_intervals_that_are_none(words: str) -> None:
    with pytest.raises(InputError, match="--snapshot-every: found"):
        SnapshotTimer.every(words)


def test_when_a_snapshot_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    by_time, by_steps = SnapshotTimer.every("1.5m"), SnapshotTimer.every("5")
    now[0] = 89
    assert not by_time.is_due(1)
    now[0] = 91
    assert by_time.is_due(1)
    assert not by_steps.is_due(4)
    assert by_steps.is_due(5)
    by_time.wrote(1, seconds=6.0)  # 3 % of 200
    now[0] = 91 + 199
    assert not by_time.is_due(2)
    now[0] = 91 + 201
    assert by_time.is_due(2)
    assert not SnapshotTimer.every("never").is_due(10**6)


def test_the_output_of_an_undisturbed_run_has_no_snapshots(small_scan: Path, prior: str) -> None:
    reconstruct(str(small_scan), str(small_scan.parent / "out.zarr"), config("dds", prior), executor="local")
    assert sorted(path.name for path in small_scan.parent.iterdir()) == ["out.zarr", "vol.zarr"]


@pytest.mark.parametrize(
    ("errors", "kind", "words"),
    [
        ([RuntimeError("Connection closed by peer"), None], WorkersLost, "worker 0 was lost"),
        (
            [RuntimeError("Connection closed by peer"), ValueError("odd")],
            RuntimeError,
            "worker 1 failed: .*odd",
        ),
        ([ValueError("odd"), InputError("no such file")], InputError, "no such file"),
        ([RuntimeError("CUDA error: an illegal memory access"), None], WorkersLost, "illegal memory"),
        ([None, "sleeps"], WorkersLost, "worker 1 does not answer"),
        ([ValueError("odd"), "dies"], WorkersLost, "worker 1 was lost"),
        ([None, None], WorkersLost, "too late"),
    ],
)
def test_the_cause_among_errors(
    errors: list[Any], kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from ddip_ray.engine import ray_failures

    monkeypatch.setattr(ray_failures, "SETTLE_TIMEOUT", 2.0)

    @ray.remote(num_cpus=0, max_retries=0)
    def work(error: Any) -> None:
        if error == "sleeps":
            time.sleep(600)
        if error == "dies":
            os._exit(1)
        if error is not None:
            raise error

    refs = [work.remote(error) for error in errors]
    ray.wait(refs, num_returns=sum(error != "sleeps" for error in errors), timeout=60)
    found = ray_failures.root_cause(refs)
    assert isinstance(found, kind)
    assert re.search(words, str(found))
    for ref, error in zip(refs, errors, strict=True):
        if error == "sleeps":
            ray.cancel(ref, force=True)
