"""Cross-validation: hold out some measurements, reconstruct from the rest, score on the held-out ones."""

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
    """Some slices of a slab, of whose measurements a part is held out.

    Attributes:
        operator: operator of these slices with all their measurements.
        y: all their measurements, (slice, *measurement).
        mask: 1 for measurements that are kept, 0 for held-out ones, (slice, *measurement), broadcastable.
        seen: the problem of these slices without the held-out measurements.
    """

    operator: LinearOperator
    y: Tensor
    mask: Tensor
    seen: SlabProblem

    def misfit(self, x: Tensor, communicator: Communicator) -> float:
        """‖A x − y‖/‖y‖ over the held-out measurements of all workers; ``x`` (slice, y, x)."""
        return math.sqrt(float(self.squared_misfits(x, communicator).sum()))

    def squared_misfits(self, x: Tensor, communicator: Communicator) -> Tensor:
        """The part of each slice in the squared `misfit`, (slice,) of all workers; ``x`` is (slice, y, x)."""
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


def hold_out(problem: SlabProblem, spacing: int, share: float, seed: int) -> HeldOut:
    """Hold out a share of the views or samples of some slices, another share in every slice.

    The problem that is left has no initial image, because one would have been made of all measurements.

    Args:
        problem: measurements of a slab.
        spacing: distance between these slices.
        share: share of a slice's measurements to hold out; at least one view.
        seed: seed of the draws.

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
        central_operator=problem.central_operator,
    )
    return HeldOut(some, y, mask, seen)


def parabola_minimum(misfits: Mapping[float, float]) -> float:
    """Where the squared misfit is least, by the parabola through the smallest one and its two neighbours.

    If the smallest is the first or the last, it is that one; among equals the first.

    Args:
        misfits: misfit at each value that was tried.
    """
    tried = sorted(misfits)
    k = min(range(len(tried)), key=lambda k: misfits[tried[k]])
    if k in (0, len(tried) - 1):
        return tried[k]
    a, b, c = tried[k - 1 : k + 2]
    left, right = ((misfits[s] ** 2 - misfits[b] ** 2) / (s - b) for s in (a, c))
    # left <= 0 <= right are the slopes of the two chords, those of the parabola at their middles.
    return b if left == right else (a + b) / 2 - left * (c - a) / 2 / (right - left)


def log_gain_lower_bound(squared: Tensor, than: Tensor) -> float:
    """A lower bound of the mean log ratio of squared misfits: the mean less three standard errors.

    Ratios are taken slice by slice, which tells small gains that all slices share from gains of chance; they
    are ratios because the held-out measurements of one slice may be a hundred times those of another (lines
    near the centre of k-space). Three standard errors, because the best of several is asked for. One slice
    has no standard error: there the ratio itself decides. Slices of which nothing is held out say nothing.

    Args:
        squared: squared misfits, (slice,).
        than: squared misfits that they are compared with, (slice,).

    Returns:
        The bound; above 0 ``squared`` are clearly smaller.
    """
    held = than > 0
    gain = (than[held] / squared[held]).log()
    if len(gain) == 0:
        return 0.0
    error = float(gain.std() / math.sqrt(len(gain))) if len(gain) > 1 else 0.0
    return float(gain.mean()) - 3 * error


def _every(slab: Slab, spacing: int) -> Sequence[int]:
    """Multiples of ``spacing`` in the slab, so that the choice does not depend on the slabs."""
    return range(-(-slab.start // spacing) * spacing, slab.stop, spacing)


def _kept(operator: LinearOperator, share: float, number: int) -> Tensor:
    """1 for the measurements of a slice that are kept, 0 for a ``share`` of them; ``number`` chooses."""
    try:
        return operator.hold_out(share, number)
    except InputError as error:
        raise InputError(error.message, _GIVEN) from error
