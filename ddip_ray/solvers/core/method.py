"""The interface that the engine drives: a method takes a number of steps on one slab, then has a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.solvers.core.network_calls import NetworkCalls
from ddip_ray.solvers.core.state import Recorder


@dataclass(frozen=True)
class StepReport:
    """The report of one step.

    Attributes:
        residual: ‖A x − y‖/‖y‖ over the whole volume.
        loss: mean loss of the last adaptation step; None where nothing was adapted.
        note: a finding to be kept with the result.
        last: whether the method has converged; no further step is made.
    """

    residual: float
    loss: float | None = None
    note: str | None = None
    last: bool = False


class Method(Protocol):
    """A reconstruction method at work on one slab.

    Every worker holds one for its slab; all call `step` with the same ``i`` at the same time.
    """

    @property
    def num_steps(self) -> int:
        """Maximum number of steps."""
        ...

    @property
    def planned(self) -> NetworkCalls:
        """Network calls of a run that takes all steps; a method that ends early makes fewer."""
        ...

    def network_calls(self) -> NetworkCalls:
        """Network calls that were made so far, counted; all workers ask at the same time."""
        ...

    @property
    def prior_digest(self) -> str | None:
        """Digest of the prior's weights; None without a prior."""
        ...

    @property
    def adapter(self) -> Adapter | None:
        """The adapter of the whole volume; None where there is none."""
        ...

    def step(self, i: int) -> StepReport:
        """Take step ``i`` of ``num_steps``."""
        ...

    def result(self) -> Tensor:
        """The reconstruction of the slab in the acquisition's normalised units, (z, y, x)."""
        ...

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand everything that later steps need to ``recorder``, or take it from there."""
        ...
