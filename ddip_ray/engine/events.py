"""What the engine tells whoever watches a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepEvent:
    """One step is done. ``residual`` is ‖A x − y‖/‖y‖; times in seconds."""

    step: int
    num_steps: int
    residual: float
    loss: float | None
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Message:
    """Something to know that does not end the run."""

    text: str


Event = StepEvent | Message


@dataclass(frozen=True)
class RunResult:
    """What came out."""

    output: str
    method: str
    seconds: float
    nfe: int
    adapt_nfe: int
    residual: float
    num_slices: int
    num_workers: int
    adapter_path: str | None
    peak_bytes: int  # of the worker that needed most
    notes: tuple[str, ...]  # what the method found
