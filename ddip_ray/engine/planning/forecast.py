"""A forecast of what a run will take: memory, network calls, messages and time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.planning.layout import RunPlan
from ddip_ray.engine.planning.memory import fewest_workers, image_bytes, worker_bytes
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.build import build_method
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.units import format_bytes

PILOT_SLICES = 2
BACKWARD = 3  # time of a network call with its gradient, in calls without


@dataclass(frozen=True)
class Forecast:
    """The memory, calls, messages and time of a run, for the worker with most slices.

    Attributes:
        num_slices: number of slices of the worker.
        num_steps: number of steps the method makes at most.
        nfe: network calls for each slice, without those for adaptation.
        adapt_nfe: network calls for adaptation and validation, summed over the volume.
        device_bytes: peak memory the worker needs on its device.
        memory: bytes each worker has; None for GPUs that cannot be asked.
        sent_bytes: bytes that leave a worker in each step.
        adapter_bytes: bytes that are summed over the workers at each update of the adapter.
        result_bytes: bytes of the result at full resolution, before compression.
        seconds: time of the run; None if the device is not in this machine.
    """

    num_slices: int
    num_steps: int
    nfe: int
    adapt_nfe: int
    device_bytes: int
    memory: int | None
    sent_bytes: int
    adapter_bytes: int
    result_bytes: int
    seconds: float | None


class _Counting(Alone):
    """Counts the bytes that would be sent if there were other workers."""

    sent_bytes = 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Count the bytes of ``tensor``."""
        self.sent_bytes += tensor.numel() * tensor.element_size()
        return tensor

    def exchange_halo(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Count the bytes of two slices."""
        self.sent_bytes += 2 * x[0].numel() * x.element_size()
        return None, None


def forecast(acquisition: Acquisition, config: RunConfig, plan: RunPlan, memory: int | None) -> Forecast:
    """Forecast a run, by making two steps of the method on the first slices.

    Args:
        acquisition: the acquisition to reconstruct.
        config: the method and its settings.
        plan: the slabs and the device.
        memory: bytes that each worker has; None if that is not known.

    Raises:
        InputError: a worker needs more than ``memory``; on GPUs the message says how many would do.
    """
    most = max(len(slab) for slab in plan.slabs)
    needed = worker_bytes(acquisition, config, most, plan.device)
    if memory is not None and needed > memory:
        if plan.device == "cuda":
            hint = f"Use {fewest_workers(acquisition, config, memory, plan.device)} GPUs or more."
        else:  # workers of a machine share its memory, and each needs some for itself
            hint = "Use fewer workers, or a machine with more memory."
        raise InputError(
            f"{acquisition.path}: {most} slices on a worker need {format_bytes(needed)}, there are "
            f"{format_bytes(memory)}: {format_bytes(needed - memory)} too much",
            hint,
        )
    is_here = plan.device == "cpu" or torch.cuda.is_available()
    pilot = load_problem(
        acquisition,
        Slab(0, min(PILOT_SLICES, acquisition.num_slices)),
        plan.device if is_here else "cpu",
        config.start_from,
    )
    method = build_method(config, pilot, Alone())
    counting = _Counting()
    stepping = build_method(_without_decisions(config), pilot, counting)
    if stepping.num_steps > 1:
        stepping.step(0)  # warm up
    counting.sent_bytes, started = 0, time.monotonic()
    stepping.step(min(1, stepping.num_steps - 1))
    slice_seconds = (time.monotonic() - started) / len(pilot.slab)
    return Forecast(
        num_slices=most,
        num_steps=method.num_steps,
        nfe=method.nfe,
        adapt_nfe=method.adapt_nfe,
        device_bytes=needed,
        memory=memory,
        sent_bytes=counting.sent_bytes if plan.num_workers > 1 else 0,
        adapter_bytes=0 if method.adapter is None else 4 * method.adapter.flat().numel(),
        result_bytes=acquisition.num_slices * image_bytes(acquisition),
        seconds=_seconds(method, config, plan, most, slice_seconds) if is_here else None,
    )


def _without_decisions(config: RunConfig) -> RunConfig:
    """The settings without choices made from the data: two slices cannot choose for a volume."""
    noise = config.noise.model_copy(update={"level": "given"})
    adaptation = config.adaptation.model_copy(update={"policy": "fixed"})
    return config.model_copy(update={"noise": noise, "adaptation": adaptation})


def _seconds(method: Method, config: RunConfig, plan: RunPlan, most: int, slice_seconds: float) -> float:
    """Seconds of the run; ``slice_seconds`` is the time of one step (and one network call) for one slice."""
    steps = (method.nfe or method.num_steps) * most * slice_seconds
    # Rescan copies are smaller than the slices, by the same factor in both directions.
    shrunk = config.adaptation.downsampling**2 if config.adaptation.loss == "rescan" else 1
    return steps + BACKWARD * method.adapt_nfe * slice_seconds / shrunk / plan.num_workers
