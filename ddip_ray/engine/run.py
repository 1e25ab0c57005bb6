"""A reconstruction from start to finish: plan, start, step, write, publish."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ddip_ray import __version__
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import Event, Message, RunResult
from ddip_ray.engine.executor import Executor, LocalExecutor
from ddip_ray.engine.planning.layout import ExecutorName, RunPlan, default_layout, make_plan
from ddip_ray.engine.provenance import digest_of_adapter, provenance
from ddip_ray.engine.ray.executor import RayExecutor
from ddip_ray.engine.snapshots.store import Progress, Snapshots
from ddip_ray.engine.snapshots.timer import SnapshotTimer
from ddip_ray.engine.steps import Stepping
from ddip_ray.engine.worker import ADAPTER_NAME, MethodFacts, Worker, WorkerTask, WriteReport
from ddip_ray.errors import InputError, WorkersLost
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.result import create_result


def reconstruct(
    store: str,
    output: str,
    config: RunConfig,
    *,
    num_workers: int | None = None,
    num_gpus: int | None = None,
    executor: ExecutorName | None = None,
    num_threads: int | None = None,
    overwrite: bool = False,
    snapshot_every: str = "10m",
    restart: bool = False,
    max_failures: int = 3,
    elastic: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Reconstruct the acquisition ``store`` into the OME-Zarr image ``output``.

    Without ``num_workers`` and ``num_gpus``: every GPU of this machine or, without any, every core for
    methods with a network and this process for the others. The volume never passes through this
    process unless it is the only worker. ``num_threads`` is of each worker's CPU; None: they share the cores.

    ``snapshot_every`` so many steps ("20"), or so long ("10m"), what the workers hold is written beside the
    output (``OUTPUT.snapshots``, gone when the result is there). The same call goes on from there, on as many
    workers as it now has; ``restart`` begins anew. When workers are lost, new ones go on, ``max_failures``
    times; ``elastic``: fewer, when there is no room for all. ``should_stop`` is asked after each step.

    Raises:
        InputError: anything the user can mend; there is no result then, and what was there is as it was.
        Interrupted: ``should_stop`` said so.
        WorkersLost: more often than ``max_failures``.
    """
    started = time.monotonic()
    timer = SnapshotTimer.every(snapshot_every)
    acquisition = open_acquisition(store)
    if num_workers is None and num_gpus is None and executor != "local":
        num_workers, num_gpus = default_layout(acquisition, config)
    plan, name = make_plan(acquisition, num_workers, num_gpus, executor, num_threads)
    snapshots = Snapshots.beside(output)
    geometry = acquisition.metadata.acquisition
    handle = create_result(
        output,
        (acquisition.num_slices, *geometry.image_shape),
        geometry.voxel_mm,
        acquisition.shard_slices,
        overwrite=overwrite,
        unit=acquisition.metadata.intensity.unit,
        orientation=acquisition.metadata.orientation,
        is_complex=acquisition.is_complex,
    )
    earlier, begun = 0.0, False  # seconds, of commands that were cut off

    def once() -> Finished:
        nonlocal earlier, begun
        with make_executor(plan, name) as workers:
            placed = workers.place(plan.num_workers, 1 if elastic else plan.num_workers)
            if placed < plan.num_workers:
                on_event(Message(f"room for {placed} of {plan.num_workers} workers: going on with those"))
            actual = plan.on_fewer(placed)
            facts = workers.start(
                [
                    WorkerTask(acquisition.path, slab, config, plan.device, plan.threads_per_worker)
                    for slab in actual.slabs
                ]
            )
            if not begun:
                begun = True
                if restart:
                    snapshots.delete()
                last = snapshots.found()[:1]
                earlier = sum(attempt.seconds for marker in last for attempt in marker.progress.attempts)
            setup = time.monotonic() - started
            who = identity(acquisition, config, facts)
            progress = Stepping(
                workers,
                placed,
                facts,
                who,
                snapshots,
                timer,
                on_event,
                should_stop,
            ).to_the_end()
            written = workers.each(partial(Worker.write, handle=handle))
            made = workers.each(Worker.facts)[0]  # fewer calls, where adapting was given up
            return Finished(actual, made, who, setup, progress, WriteReport.of_all(written))

    try:
        done = persistently(once, max_failures, on_event, should_stop)
        facts, progress, written = done.facts, done.progress, done.written
        seconds = time.monotonic() - started
        residual = math.nan if progress.residual is None else progress.residual
        stepping = sum(attempt.seconds for attempt in progress.attempts)
        timings = {"total": earlier + seconds, "setup": done.setup, "steps": stepping}
        handle.finalise(
            provenance(
                acquisition,
                config,
                done.plan,
                facts,
                digests=written.digests,
                adapter_digest=done.identity["adapter"],
                executor=name,
                residual=residual,
                timings=timings,
            )
            | {
                "attempts": [attempt.model_dump(mode="json") for attempt in progress.attempts],
                "peak_bytes_of_a_worker": written.peak_bytes,
                "notes": list(progress.notes),
            }
        )
    except BaseException:
        handle.abort()
        raise
    try:
        snapshots.delete()
    except (InputError, OSError, ValueError) as error:
        on_event(Message(f"{snapshots.folder} is no longer needed, and could not be deleted: {error}"))
    return RunResult(
        output=output,
        method=config.method,
        seconds=seconds,
        nfe=facts.nfe,
        adapt_nfe=facts.adapt_nfe,
        residual=residual,
        num_slices=acquisition.num_slices,
        num_workers=done.plan.num_workers,
        adapter_path=f"{output.rstrip('/')}/{ADAPTER_NAME}" if written.has_adapter else None,
        peak_bytes=written.peak_bytes,
        notes=progress.notes,
    )


@dataclass(frozen=True)
class Finished:
    """What workers have left behind who came to the end."""

    plan: RunPlan
    facts: MethodFacts
    identity: dict[str, Any]
    setup: float
    progress: Progress
    written: WriteReport


def persistently(
    once: Callable[[], Finished],
    max_failures: int,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool],
) -> Finished:
    """``once``, again with new workers when they are lost, ``max_failures`` times at most."""
    for failures in range(max_failures):
        try:
            return once()
        except WorkersLost as error:
            if should_stop():
                raise
            on_event(Message(f"{error}; new workers take over ({failures + 1} of {max_failures})"))
    return once()


def identity(acquisition: Acquisition, config: RunConfig, facts: MethodFacts) -> dict[str, Any]:
    """What a snapshot belongs to; the measurements themselves are compared by the workers."""
    return {
        "ddip-ray": __version__,
        "settings": config.model_dump(mode="json", exclude={"micro_batch"}),
        "acquisition": acquisition.metadata.model_dump(mode="json"),
        "prior": facts.prior_digest,
        "adapter": digest_of_adapter(config),
    }


def make_executor(plan: RunPlan, name: ExecutorName) -> Executor:
    if name == "local":
        return LocalExecutor()
    return RayExecutor(plan.num_workers, on_gpus=plan.device == "cuda")
