"""What the engine drives: a method is a number of steps on one slab, then a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.solvers.core.state import State


@dataclass(frozen=True)
class StepReport:
    """How a step went: ‖A x − y‖/‖y‖ over the volume, and the adaptation's loss where there is one.

    ``note`` is a finding to be kept with the result. After the ``last`` step no other is made.
    """

    residual: float
    loss: float | None = None
    note: str | None = None
    last: bool = False


class Method(Protocol):
    """Every worker holds one for its slab; all call `step` with the same ``i`` at the same time."""

    @property
    def num_steps(self) -> int:
        """At most."""
        ...

    @property
    def nfe(self) -> int:
        """Network calls for each slice, to reconstruct; at most, until the last step is done."""
        ...

    @property
    def adapt_nfe(self) -> int:
        """Network calls to adapt or to decide on settings, over the whole volume; at most, like `nfe`."""
        ...

    @property
    def prior_digest(self) -> str | None: ...

    @property
    def adapter(self) -> Adapter | None: ...

    def step(self, i: int) -> StepReport: ...

    def result(self) -> Tensor: ...

    def keep(self, state: State) -> None:
        """Hand ``state`` all that the steps to come need, or take it back from there."""
        ...
