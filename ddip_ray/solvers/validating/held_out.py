"""Reconstruct without some of the measurements, to ask them afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.numerics.inner_product import slice_dot_real
from ddip_ray.operators.base import LinearOperator
from ddip_ray.operators.masked import Masked
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.random import key
from ddip_ray.solvers.core.slab import Slab

_VIEWS = 0x41D  # keys the choice of views apart from the image noise
_GIVEN = "Use --adapt fixed, and noise.level: given in the --config"


@dataclass(frozen=True)
class HeldOut:
    """Some slices without some of their measurements, ``seen``; ``mask`` is 1 for those they keep.

    ``operator`` and ``y`` are of the same slices with all measurements, (slice, *measurement) like the mask,
    which is broadcastable.
    """

    operator: LinearOperator
    y: Tensor
    mask: Tensor
    seen: SlabProblem

    def misfit(self, x: Tensor, communicator: Communicator) -> float:
        """‖A x − y‖/‖y‖ over the held-out measurements of all workers; ``x`` (slice, y, x)."""
        return math.sqrt(float(self.squared_misfits(x, communicator).sum()))

    def squared_misfits(self, x: Tensor, communicator: Communicator) -> Tensor:
        """The share of each slice in the square of ``misfit``, (slice,) of all workers."""
        sums = torch.zeros(2, self.seen.num_slices, dtype=torch.float64, device=x.device)
        if len(self.y):  # a small slab may have none of these slices
            y = (1 - self.mask) * self.y
            missed = (1 - self.mask) * self.operator.forward(x) - y
            own = [slice_dot_real(part, part) for part in (missed, y)]
            sums[:, self.seen.slab.start : self.seen.slab.stop] = torch.stack(own)
        # A slice a column, so that the sum is the same on any workers.
        missed, signal = communicator.all_reduce(sums)
        squared: Tensor = missed / signal.sum().clamp_min(torch.finfo(torch.float64).tiny)
        return squared


def held_out(problem: SlabProblem, spacing: int, share: float, seed: int) -> HeldOut:
    """Every ``spacing``-th slice without ``share`` of its views or samples, drawn for every slice.

    And without an earlier reconstruction, which was made of them all.

    Raises:
        InputError: k-space that has nothing outside its centre.
    """
    indices, A = list(_every(problem.slab, spacing)), problem.operator
    rows = [z - problem.slab.start for z in indices]
    numbers = [key(seed, _VIEWS, z) for z in indices]
    kept = [_kept(A.of_slices([row]), share, n) for row, n in zip(rows, numbers, strict=True)]
    some, y = A.of_slices(rows), problem.y[rows]
    mask = torch.stack(kept).to(y.device) if kept else y.real.new_ones(0, *[1] * (y.ndim - 1))
    slab = Slab(-(-problem.slab.start // spacing), -(-problem.slab.stop // spacing))
    seen = SlabProblem(
        Masked(some, mask),
        mask * y,
        slab,
        -(-problem.num_slices // spacing),
        problem.noise_std,
        typical=problem.typical,
    )
    return HeldOut(some, y, mask, seen)


def least(misfits: Mapping[float, float]) -> float:
    """Where the square of the misfit is least: of the parabola through the least one and its neighbours.

    At either end, the end; of equals the first.
    """
    tried = sorted(misfits)
    k = min(range(len(tried)), key=lambda k: misfits[tried[k]])
    if k in (0, len(tried) - 1):
        return tried[k]
    a, b, c = tried[k - 1 : k + 2]
    left, right = ((misfits[s] ** 2 - misfits[b] ** 2) / (s - b) for s in (a, c))
    # left <= 0 <= right are the slopes of the two chords, those of the parabola at their middles.
    return b if left == right else (a + b) / 2 - left * (c - a) / 2 / (right - left)


def clear_gain(squared: Tensor, than: Tensor) -> float:
    """How much less squared misfits, (slice,), clearly are: log ratio, less three standard errors.

    Slice by slice, which tells small gains that all slices share from gains of chance; as ratios, because
    what is held out of one slice may be a hundred times what is of another (lines near the centre of
    k-space); by three, because the best of several is asked for. One slice has no standard error: there
    less is less. Slices of which nothing is held out say nothing.
    """
    held = than > 0
    gain = (than[held] / squared[held]).log()
    if len(gain) == 0:
        return 0.0
    error = float(gain.std() / math.sqrt(len(gain))) if len(gain) > 1 else 0.0
    return float(gain.mean()) - 3 * error


def _every(slab: Slab, spacing: int) -> Sequence[int]:
    """Multiples of ``spacing`` in the slab, so that the choice does not know the slabs."""
    return range(-(-slab.start // spacing) * spacing, slab.stop, spacing)


def _kept(operator: LinearOperator, share: float, number: int) -> Tensor:
    """1 for the measurements of a slice that are kept, 0 for a ``share`` of them; ``number`` chooses."""
    try:
        return operator.hold_out(share, number)
    except InputError as error:
        raise InputError(error.message, _GIVEN) from error
