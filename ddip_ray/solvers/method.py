"""What the engine drives: a method is a number of steps on one slab, then a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class StepReport:
    """How a step went: ‖A x − y‖/‖y‖ over the volume, and the adaptation's loss where there is one."""

    residual: float
    loss: float | None = None


class Method(Protocol):
    """Every worker holds one for its slab; all call `step` with the same ``i`` at the same time."""

    num_steps: int
    nfe: int
    adapt_nfe: int

    def step(self, i: int) -> StepReport: ...

    def result(self) -> Tensor: ...
