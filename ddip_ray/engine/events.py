"""The reports of the engine during a run, and its result at the end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepEvent:
    """One step of the method has been made on all workers.

    Attributes:
        step: number of steps made so far, including those of earlier commands.
        num_steps: number of steps the method makes at most.
        residual: ‖A x − y‖/‖y‖ over the whole volume.
        loss: adaptation loss of this step; None where the network is not adapted.
        seconds: time since this group of workers made its first step.
        seconds_left: estimated time until the last step.
    """

    step: int
    num_steps: int
    residual: float
    loss: float | None
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Message:
    """A line for the user about something that does not end the run."""

    text: str


Event = StepEvent | Message


@dataclass(frozen=True)
class RunResult:
    """The result of a run and what it took.

    Attributes:
        output: path of the result store.
        method: name of the method.
        seconds: time this call took.
        nfe: network calls for each slice, without those for adaptation.
        adapt_nfe: network calls for adaptation and validation, summed over the volume.
        residual: ‖A x − y‖/‖y‖ of the result; NaN if it was never computed.
        num_slices: number of slices of the volume.
        num_workers: number of workers that finished the run.
        adapter_path: path of the trained adapter inside the result; None if the method has none.
        peak_bytes: peak memory of the worker that needed most.
        notes: findings of the method, one line each.
    """

    output: str
    method: str
    seconds: float
    nfe: int
    adapt_nfe: int
    residual: float
    num_slices: int
    num_workers: int
    adapter_path: str | None
    peak_bytes: int
    notes: tuple[str, ...]
