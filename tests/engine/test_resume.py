"""Runs that are stopped, lose workers, or lose their driver end in the volume of an undisturbed run."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import LOCAL, config, folder, stopped, volume

from ddip_ray.engine.events import Event, Message, StepEvent
from ddip_ray.engine.executor import LocalExecutor
from ddip_ray.engine.ray import executor as ray_executor
from ddip_ray.engine.run import Resilience, reconstruct
from ddip_ray.errors import InputError, WorkersLost
from ddip_ray.io.stores.result import open_result


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


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(("method", "bound"), [("dds", 0), ("d3ip-mbir", 1e-5), ("tv", 1e-5)])
def test_on_another_number_of_workers(small_scan: Path, prior: str, method: str, bound: float) -> None:
    settings = config(method, prior)
    whole = volume(small_scan, "whole", settings, **LOCAL)
    stopped(small_scan, "out", settings, 2, num_workers=2)
    stopped(small_scan, "out", settings, 1, num_workers=3)
    assert np.abs(volume(small_scan, "out", settings, **LOCAL) - whole).max() <= bound


@pytest.mark.usefixtures("processes")
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


@pytest.mark.usefixtures("ray_cluster")
def test_workers_lost_before_the_first_snapshot(
    small_scan: Path, prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, events = config("dds", prior), list[Event]()
    whole = volume(small_scan, "whole", settings, **LOCAL)
    monkeypatch.setattr(ray_executor.RayExecutor, "each", kill_at(3, 1))
    np.testing.assert_array_equal(
        volume(small_scan, "out", settings, num_workers=2, on_event=events.append), whole
    )
    words = [event.text for event in events if isinstance(event, Message)]
    assert len(words) == 1
    assert re.fullmatch(r"worker 1 was lost: .*; new workers take over \(1 of 3\)", words[0])


@pytest.mark.usefixtures("ray_cluster")
def test_workers_lost_too_often(small_scan: Path, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config("dds", prior)
    whole = volume(small_scan, "whole", settings, **LOCAL)
    with monkeypatch.context() as patch:
        patch.setattr(ray_executor.RayExecutor, "each", kill_at(3, 1))
        with pytest.raises(WorkersLost, match="worker 1 was lost"):
            volume(small_scan, "out", settings, num_workers=2, resilience=Resilience("2", max_failures=0))
    assert sorted(path.name for path in small_scan.parent.iterdir()) == [
        "out.zarr.snapshots", "vol.zarr", "whole.zarr",
    ]  # fmt: skip
    events: list[Event] = []
    found = volume(small_scan, "out", settings, on_event=events.append, **LOCAL)
    np.testing.assert_array_equal(found, whole)
    assert events[0] == Message("going on after step 2 of 4")


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
            volume(small_scan, "out", settings, resilience=Resilience("3"), **LOCAL)
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
            volume(small_scan, "out", settings, resilience=Resilience("1"), **LOCAL)
    np.testing.assert_array_equal(volume(small_scan, "out", settings, **LOCAL), whole)


def test_the_output_of_an_undisturbed_run_has_no_snapshots(small_scan: Path, prior: str) -> None:
    reconstruct(str(small_scan), str(small_scan.parent / "out.zarr"), config("dds", prior), executor="local")
    assert sorted(path.name for path in small_scan.parent.iterdir()) == ["out.zarr", "vol.zarr"]
