"""A reconstruction from start to finish: plan, start workers, make the steps, write, publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from ddip_ray.adaptation.load import read_adapter
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import Event, Message, RunResult
from ddip_ray.engine.executor import Executor, LocalExecutor
from ddip_ray.engine.planning.layout import ExecutorName, Layout, RunPlan, make_plan
from ddip_ray.engine.provenance import digest_of_adapter, identity, provenance
from ddip_ray.engine.ray.executor import RayExecutor
from ddip_ray.engine.snapshots.store import Progress, Snapshots
from ddip_ray.engine.snapshots.timer import SnapshotTimer
from ddip_ray.engine.steps import StepLoop
from ddip_ray.engine.worker import ADAPTER_NAME, MethodFacts, Worker, WorkerTask, WriteReport
from ddip_ray.errors import InputError, WorkersLost
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.result import ResultHandle, create_result


@dataclass(frozen=True)
class Resilience:
    """The means by which a run survives interruptions and lost workers.

    Attributes:
        snapshot_every: interval between snapshots of the workers' state: a number of steps ("20"), a time
            ("90s", "10m", "1.5h") or "never". They are written to ``OUTPUT.snapshots`` and deleted when the
            result is complete. Repeating the call resumes from the newest one, on any number of workers.
        restart: whether to delete earlier snapshots and begin anew.
        max_failures: how often lost workers are replaced before the run gives up.
    """

    snapshot_every: str = "10m"
    restart: bool = False
    max_failures: int = 3


def reconstruct(
    store: str,
    output: str,
    config: RunConfig,
    *,
    num_workers: int | None = None,
    num_gpus: int | None = None,
    executor: ExecutorName | None = None,
    layout: Layout | None = None,
    resilience: Resilience = Resilience(),
    overwrite: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Reconstruct an acquisition into an OME-Zarr image.

    The volume never passes through this process unless it is the only worker.

    Args:
        store: path of the acquisition.
        output: path of the result.
        config: the method and its settings.
        num_workers: short for ``layout=Layout(num_workers=...)``.
        num_gpus: short for ``layout=Layout(num_gpus=...)``.
        executor: short for ``layout=Layout(executor=...)``.
        layout: where to compute. None: on every GPU or, if there is none, on every core.
        resilience: snapshots, and replacement of lost workers.
        overwrite: whether to replace an earlier result at ``output``.
        on_event: called after each step, and with messages for the user.
        should_stop: asked after each step; True ends the run with a snapshot.

    Raises:
        InputError: the user's input is wrong; no result is written, and an earlier one stays as it was.
        Interrupted: ``should_stop`` returned True.
        WorkersLost: workers were lost more often than ``max_failures``, or after ``should_stop`` said so.
    """
    started = time.monotonic()
    if layout is None:
        layout = Layout(num_workers, num_gpus, executor)
    elif (num_workers, num_gpus, executor) != (None, None, None):
        raise InputError(
            "`layout` is given, and `num_workers`, `num_gpus` or `executor`, too: give one or the other"
        )

    # Plan: slabs, device and executor, before anything starts.
    timer = SnapshotTimer.every(resilience.snapshot_every)
    acquisition = open_acquisition(store)
    plan = make_plan(acquisition, config, layout)
    snapshots = Snapshots.beside(output)

    with _new_result(output, acquisition, overwrite) as result:
        # Start workers, make the steps, write the slabs; again with new workers if some are lost.
        earlier = snapshots.found()
        run = Run(
            acquisition=acquisition,
            config=config,
            plan=plan,
            adapter=read_adapter(config),
            result=result,
            snapshots=snapshots,
            outdated=[marker.name for marker in earlier] if resilience.restart else [],
            timer=timer,
            started=started,
            on_event=on_event,
            should_stop=should_stop,
        )
        done = run.with_retries(resilience.max_failures)

        # Publish the volume, with the record of its making.
        seconds = time.monotonic() - started
        before = 0.0 if resilience.restart or not earlier else earlier[0].progress.seconds
        result.finalise(
            provenance(
                acquisition,
                config,
                done.plan,
                done.facts,
                progress=done.progress,
                written=done.written,
                adapter_digest=digest_of_adapter(run.adapter),
                seconds={
                    "total": before + seconds,
                    "setup": done.setup_seconds,
                    "steps": done.progress.seconds,
                },
            )
        )

    # Clean up.
    run.delete_snapshots()
    return RunResult(
        output=output,
        method=config.method,
        seconds=seconds,
        nfe=done.facts.nfe,
        adapt_nfe=done.facts.adapt_nfe,
        residual=done.progress.last_residual,
        num_slices=acquisition.num_slices,
        num_workers=done.plan.num_workers,
        adapter_path=f"{output.rstrip('/')}/{ADAPTER_NAME}" if done.written.has_adapter else None,
        peak_bytes=done.written.peak_bytes,
        notes=done.progress.notes,
    )


def _new_result(output: str, acquisition: Acquisition, overwrite: bool) -> ResultHandle:
    """An unpublished result with the shape, units and orientation of the acquisition's image."""
    geometry = acquisition.metadata.acquisition
    return create_result(
        output,
        (acquisition.num_slices, *geometry.image_shape),
        geometry.voxel_mm,
        acquisition.shard_slices,
        overwrite=overwrite,
        unit=acquisition.metadata.intensity.unit,
        orientation=acquisition.metadata.orientation,
        is_complex=acquisition.is_complex,
    )


@dataclass(frozen=True)
class Completed:
    """The outcome of a completed attempt, for the driver.

    Attributes:
        plan: the plan, reduced to the workers that could be placed.
        facts: the method after its last step.
        progress: all steps, including those of earlier attempts and commands.
        written: what the workers wrote, combined.
        setup_seconds: time from the start of the run until the workers could make their first step.
    """

    plan: RunPlan
    facts: MethodFacts
    progress: Progress
    written: WriteReport
    setup_seconds: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """One reconstruction. An attempt may lose its workers; the next one goes on from the last snapshot.

    Attributes:
        adapter: contents of the initial adapter's file; None without one.
        result: where the workers write the volume.
        outdated: names of snapshots to delete as soon as the workers have started.
        started: `time.monotonic` at the start of the run.
    """

    acquisition: Acquisition
    config: RunConfig
    plan: RunPlan
    adapter: bytes | None
    result: ResultHandle
    snapshots: Snapshots
    outdated: Collection[str]
    timer: SnapshotTimer
    started: float
    on_event: Callable[[Event], None]
    should_stop: Callable[[], bool]

    def with_retries(self, max_failures: int) -> Completed:
        """Make attempts until one is complete, with new workers whenever they are lost.

        Raises:
            WorkersLost: more than ``max_failures`` times, or after ``should_stop`` returned True.
        """
        for failures in range(max_failures):
            try:
                return self.attempt()
            except WorkersLost as error:
                if self.should_stop():
                    raise
                self.on_event(Message(f"{error}; new workers take over ({failures + 1} of {max_failures})"))
        return self.attempt()

    def attempt(self) -> Completed:
        """Start workers, make the steps that are left, and write the volume.

        Raises:
            WorkersLost: a worker died or hangs.
        """
        with make_executor(self.plan, self.adapter) as workers:
            plan = self.placed(workers)
            facts = workers.start(
                [
                    WorkerTask(self.acquisition.path, slab, self.config, plan.device, plan.threads_per_worker)
                    for slab in plan.slabs
                ]
            )
            self.snapshots.delete_named(self.outdated)
            setup_seconds = time.monotonic() - self.started
            progress = self.steps_on(workers, plan, facts).run_steps()
            reports = workers.each(partial(Worker.write, handle=self.result))
            facts = workers.each(Worker.final_facts)[0]
            return Completed(plan, facts, progress, WriteReport.combined(reports), setup_seconds)

    def placed(self, workers: Executor) -> RunPlan:
        """Reserve room for the workers; the plan with the number for which there is room."""
        wanted = self.plan.num_workers
        placed = workers.place(wanted, self.plan.fewest_workers)
        if placed < wanted:
            self.on_event(Message(f"room for {placed} of {wanted} workers: going on with those"))
        return self.plan.on_fewer(placed)

    def steps_on(self, workers: Executor, plan: RunPlan, facts: MethodFacts) -> StepLoop:
        """The loop over the steps that are left, on workers that have started."""
        return StepLoop(
            workers=workers,
            num_workers=plan.num_workers,
            num_steps=facts.num_steps,
            identity=identity(
                self.acquisition, self.config, facts.prior_digest, digest_of_adapter(self.adapter)
            ),
            snapshots=self.snapshots,
            timer=self.timer,
            on_event=self.on_event,
            should_stop=self.should_stop,
        )

    def delete_snapshots(self) -> None:
        """Delete all snapshots; a failure is only a message, because the result is complete."""
        try:
            self.snapshots.delete()
        except (InputError, OSError, ValueError) as error:
            self.on_event(
                Message(f"{self.snapshots.folder} is no longer needed, and could not be deleted: {error}")
            )


def make_executor(plan: RunPlan, adapter: bytes | None) -> Executor:
    """The executor that a plan names.

    Args:
        plan: names the executor, the number of workers and their device.
        adapter: contents of the initial adapter's file, for workers whose machines do not have it.
    """
    if plan.executor == "local":
        return LocalExecutor()
    return RayExecutor(plan.num_workers, on_gpus=plan.device == "cuda", adapter=adapter)
