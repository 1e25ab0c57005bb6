"""A reconstruction from start to finish: plan, start, step, write, publish."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Literal

from ddip_ray import __version__
from ddip_ray.engine.events import RunResult, StepEvent
from ddip_ray.engine.executor import Executor, LocalExecutor
from ddip_ray.engine.plan import RunPlan, plan_slabs
from ddip_ray.engine.ray_executor import RayExecutor
from ddip_ray.engine.worker import ADAPTER_NAME, MethodFacts, WorkerTask
from ddip_ray.errors import InputError
from ddip_ray.io.acquisition import Acquisition, open_acquisition
from ddip_ray.io.result import create_result
from ddip_ray.io.schema import MEASUREMENTS
from ddip_ray.solvers.settings import RunConfig

ExecutorName = Literal["ray", "local"]


def reconstruct(
    store: str,
    output: str,
    config: RunConfig,
    *,
    num_workers: int | None = None,
    num_gpus: int | None = None,
    executor: ExecutorName | None = None,
    overwrite: bool = False,
    on_event: Callable[[StepEvent], None] = lambda event: None,
) -> RunResult:
    """Reconstruct the acquisition ``store`` into the OME-Zarr image ``output``.

    Without ``num_workers`` and ``num_gpus``: every GPU of this machine or, without any, every core for
    methods with a network and this process for the others. The volume never passes through this
    process unless it is the only worker.

    Raises:
        InputError: anything the user can mend; nothing has been written then.
    """
    started = time.monotonic()
    acquisition = open_acquisition(store)
    if num_workers is None and num_gpus is None and executor != "local":
        num_workers, num_gpus = default_layout(acquisition, config)
    plan, name = make_plan(acquisition, num_workers, num_gpus, executor)
    geometry = acquisition.metadata.acquisition
    handle = create_result(
        output,
        (acquisition.num_slices, *geometry.image_shape),
        geometry.voxel_mm,
        acquisition.shard_slices,
        overwrite=overwrite,
        unit=acquisition.metadata.intensity.unit,
        orientation=acquisition.metadata.orientation,
        is_complex=geometry.arrays[MEASUREMENTS].dtype == "complex64",
    )
    tasks = [
        WorkerTask(acquisition.path, slab, config, plan.device, plan.threads_per_worker)
        for slab in plan.slabs
    ]
    try:
        with make_executor(plan, name) as workers:
            facts = workers.start(tasks)
            setup = time.monotonic() - started
            residual, notes, stepping = _step_all(workers, facts, on_event)
            written = workers.write(handle)
        seconds = time.monotonic() - started
        timings = {"total": seconds, "setup": setup, "steps": stepping}
        handle.finalise(
            provenance(acquisition, config, plan, facts, executor=name, residual=residual, timings=timings)
            | {"peak_bytes_of_a_worker": written.peak_bytes, "notes": notes}
        )
    except BaseException:
        handle.abort()
        raise
    return RunResult(
        output=output,
        method=config.method,
        seconds=seconds,
        nfe=facts.nfe,
        adapt_nfe=facts.adapt_nfe,
        residual=residual,
        num_slices=acquisition.num_slices,
        num_workers=plan.num_workers,
        adapter_path=f"{output.rstrip('/')}/{ADAPTER_NAME}" if written.has_adapter else None,
        peak_bytes=written.peak_bytes,
        notes=tuple(notes),
    )


def make_plan(
    acquisition: Acquisition, num_workers: int | None, num_gpus: int | None, executor: ExecutorName | None
) -> tuple[RunPlan, ExecutorName]:
    """Resolve flags into slabs, device and executor."""
    if num_gpus is not None and num_workers is not None and num_gpus != num_workers:
        raise InputError(
            f"--gpus {num_gpus} and --workers {num_workers} disagree", "One worker drives one GPU."
        )
    _require_gpus(num_gpus or 0)
    wanted = num_gpus or num_workers or 1
    if executor == "local" and wanted > 1:
        raise InputError(f"the local executor is one worker, {wanted} asked for", "Use --executor ray.")
    slabs = plan_slabs(acquisition.num_slices, acquisition.shard_slices, wanted)
    name: ExecutorName = executor or ("ray" if wanted > 1 or num_gpus else "local")
    threads = max(1, (os.cpu_count() or 1) // wanted)
    return RunPlan(slabs, acquisition.num_slices, "cuda" if num_gpus else "cpu", threads), name


def default_layout(acquisition: Acquisition, config: RunConfig) -> tuple[int | None, int | None]:
    """(workers, GPUs) for a user who did not say. A network uses one core a worker (see `one_thread`)."""
    shards = -(-acquisition.num_slices // acquisition.shard_slices)
    if gpus := _local_gpus():
        return None, min(gpus, shards)
    return (min(os.cpu_count() or 1, shards) if config.uses_prior else 1), None


def make_executor(plan: RunPlan, name: ExecutorName) -> Executor:
    if name == "local":
        return LocalExecutor()
    return RayExecutor(plan.num_workers, plan.num_workers if plan.device == "cuda" else 0)


def _step_all(
    workers: Executor, facts: MethodFacts, on_event: Callable[[StepEvent], None]
) -> tuple[float, list[str], float]:
    started = time.monotonic()
    residual, notes = float("nan"), []
    for i in range(facts.num_steps):
        report = workers.step(i)
        residual = report.residual
        notes += [report.note] if report.note else []
        seconds = time.monotonic() - started
        left = seconds / (i + 1) * (facts.num_steps - i - 1)
        on_event(StepEvent(i + 1, facts.num_steps, residual, report.loss, seconds, left))
        if report.last:
            break
    return residual, notes, time.monotonic() - started


def provenance(
    acquisition: Acquisition,
    config: RunConfig,
    plan: RunPlan,
    facts: MethodFacts,
    *,
    executor: str,
    residual: float,
    timings: dict[str, float],
) -> dict[str, Any]:
    """Everything needed to make this result again, and to judge it."""
    packages = ("torch", "numpy", "zarr", "tensorstore", "ray", "diffusers")
    return {
        "method": config.method,
        "config": config.model_dump(mode="json"),
        "acquisition": {"path": acquisition.path, **acquisition.metadata.model_dump(mode="json")},
        "prior_digest": facts.prior_digest,
        "nfe": facts.nfe,
        "adapt_nfe": facts.adapt_nfe,
        "residual": residual,
        "seconds": timings,
        "layout": {
            "executor": executor,
            "device": plan.device,
            "slabs": [[slab.start, slab.stop] for slab in plan.slabs],
            "threads_per_worker": plan.threads_per_worker,
        },
        "versions": {"ddip-ray": __version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
    }


def _local_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _require_gpus(wanted: int) -> None:
    """Refuse at once what this machine cannot give; a cluster is asked when it is connected."""
    available = _local_gpus()
    if "RAY_ADDRESS" not in os.environ and wanted > available:
        raise InputError(
            f"{wanted} GPUs asked for, {available} in the machine",
            "Use fewer --gpus, or --workers for CPU workers.",
        )
