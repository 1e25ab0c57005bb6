"""The tests that every executor must pass: inherit `ExecutorContract` and say how to make one.

class TestMyExecutor(ExecutorContract):
    num_workers = 2

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls) -> Executor:
        return MyExecutor()

A fixture ``store`` with the scope "class" gives the path of an acquisition of several shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.executor import Executor, LocalExecutor
from ddip_ray.engine.planning.layout import plan_slabs
from ddip_ray.engine.worker import Worker, WorkerTask
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.result import create_result

NUM_STEPS = 4


def tasks_for(store: str, num_workers: int) -> list[WorkerTask]:
    """A task for each of ``num_workers``: total variation of ``store``, which couples the slabs."""
    acquisition = open_acquisition(store)
    slabs = plan_slabs(acquisition.num_slices, acquisition.shard_slices, num_workers)
    config = RunConfig.for_method("tv", tv={"iterations": NUM_STEPS})
    return [WorkerTask(store, slab, config, "cpu", 1) for slab in slabs]


def _first_slice(worker: Worker) -> int:
    return worker.task.slab.start


def _volume(worker: Worker) -> Tensor:
    return worker.method.result()


def _mistake_of_the_last(worker: Worker, first_slice: int) -> None:
    if worker.task.slab.start == first_slice:
        raise InputError("no such file", "Look again.")


def _bug(worker: Worker) -> None:
    raise ZeroDivisionError("a bug of ours")


class ExecutorContract:
    """What a run expects of an `Executor`. The tests share one group of workers, in the order given here."""

    num_workers = 1

    @pytest.fixture(scope="class")
    @classmethod
    def workers(cls, executor: Executor, store: str) -> Iterator[Executor]:
        """The executor with workers that have started."""
        with executor as entered:
            assert entered.place(cls.num_workers, cls.num_workers) == cls.num_workers
            facts = entered.start(tasks_for(store, cls.num_workers))
            assert (facts.num_steps, facts.prior_digest) == (NUM_STEPS, None)
            yield entered

    def test_answers_come_in_the_order_of_the_slabs(self, workers: Executor, store: str) -> None:
        """Each worker has the slab of its task."""
        slabs = [task.slab for task in tasks_for(store, self.num_workers)]
        assert workers.each(_first_slice) == [slab.start for slab in slabs]

    def test_an_input_error_comes_back_as_it_was_raised(self, workers: Executor, store: str) -> None:
        """Its message and hint are those of the worker that found it."""
        last = tasks_for(store, self.num_workers)[-1].slab.start
        with pytest.raises(InputError) as caught:
            workers.each(partial(_mistake_of_the_last, first_slice=last))
        assert (caught.value.message, caught.value.hint) == ("no such file", "Look again.")

    def test_a_bug_is_not_taken_for_a_mistake_of_the_user(self, workers: Executor) -> None:
        """Other errors come back as errors, with their own words."""
        with pytest.raises((ZeroDivisionError, RuntimeError), match="a bug of ours"):
            workers.each(_bug)

    def test_the_volume_is_that_of_one_process(self, workers: Executor, store: str, tmp_path: Path) -> None:
        """Workers step together, and write the volume that `LocalExecutor` gets."""
        with LocalExecutor() as reference:
            reference.start(tasks_for(store, 1))
            for i in range(NUM_STEPS):
                (expected,) = reference.each(partial(Worker.step, i=i))
                reports = workers.each(partial(Worker.step, i=i))
                assert [report.residual for report in reports] == pytest.approx(
                    [expected.residual] * self.num_workers, rel=1e-5
                )
            (whole,) = reference.each(_volume)
        assert torch.cat(workers.each(_volume)).sub(whole).abs().max() <= 1e-5
        acquisition = open_acquisition(store)
        intensity, (z, y, x) = acquisition.metadata.intensity, whole.shape
        with create_result(
            tmp_path / "x.zarr", (z, y, x), (1.0, 1.0, 1.0), acquisition.shard_slices
        ) as handle:
            written = workers.each(partial(Worker.write, handle=handle))
            result = handle.finalise({})
        assert not any(report.has_adapter for report in written)
        expected_values = intensity.offset + intensity.scale * whole.numpy()
        np.testing.assert_allclose(result.read(0, z), expected_values, atol=1e-4 * intensity.scale)
