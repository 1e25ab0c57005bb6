"""The part of a sampling step in which one method differs from another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from torch import Tensor

from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Recorder

# Warm starts and duals that one step hands to the next, by name, each (z, y, x). Empty before the first step.
Carried = Mapping[str, Tensor]
LAST_CORRECTION = "last_correction"  # what the data added to the last estimate: CG starts from it
_NAMES_IN_SNAPSHOTS = {LAST_CORRECTION: "added"}  # as snapshots have had them from the start


class DataConsistency(Protocol):
    """Makes a denoised slab agree with the measurements of one problem, and moves on to the next timestep.

    It holds settings and the problem, and nothing that changes: what the next step needs is returned.
    """

    @property
    def couples_slices(self) -> bool:
        """Whether the result of a slice depends on its neighbours."""
        ...

    def apply(self, x0_hat: Tensor, t: int, t_next: int, carried: Carried) -> tuple[Tensor, Carried]:
        """The estimate that agrees with the measurements, and what the next step starts from.

        Args:
            x0_hat: denoised slices, (z, y, x).
            t: timestep at which they were denoised.
            t_next: timestep that the step leads to; -1 is the clean image.
            carried: what `apply` returned in the step before.

        Returns:
            x0, (z, y, x), and the tensors to carry.
        """
        ...

    def ddim_step(
        self, x_t: Tensor, x0: Tensor, eps_hat: Tensor, noise: Tensor, *, t: int, t_next: int
    ) -> Tensor:
        """The noisy slices at ``t_next``, (z, y, x); every tensor has this shape.

        Args:
            x_t: noisy slices at ``t``.
            x0: result of `apply`.
            eps_hat: the network's estimate of the noise in ``x_t``.
            noise: new unit normal noise.
            t: timestep of ``x_t``.
            t_next: timestep to move to.
        """
        ...


DataConsistencyFor = Callable[[SlabProblem, Communicator], DataConsistency]


def save_or_restore_carried(
    carried: Carried, recorder: Recorder, slab: Slab, other_names: Collection[str]
) -> Carried:
    """Hand ``carried`` to ``recorder``; restoring, the tensors that are recorded there.

    Args:
        carried: tensors with a row for each slice of ``slab``.
        recorder: record of the part of the state that they belong to.
        slab: slices of this worker.
        other_names: names of this part's other tensors.
    """
    own_names = {recorded: name for name, recorded in _NAMES_IN_SNAPSHOTS.items()}
    recorded = {_NAMES_IN_SNAPSHOTS.get(name, name): tensor for name, tensor in carried.items()}
    recorded = recorder.slices_by_name(recorded, slab, other_names)
    return {own_names.get(name, name): tensor for name, tensor in recorded.items()}
