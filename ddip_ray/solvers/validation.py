"""How strongly to adapt, decided by measurements that nothing has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.errors import InputError
from ddip_ray.operators.coil_sensitivity import calibration_size, central_square
from ddip_ray.operators.inner_product import squared_modulus
from ddip_ray.operators.masked import Masked
from ddip_ray.operators.protocol import LinearOperator
from ddip_ray.operators.sense import Sense
from ddip_ray.solvers.noise import key
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.sampler import Sampler
from ddip_ray.solvers.settings import ValidationSettings
from ddip_ray.solvers.slab import Slab
from ddip_ray.solvers.steps import Network

_VIEWS = 0x41D  # keys the choice of views apart from the image noise
_LARGEST_CENTRE = 16  # samples along each side that are never held out


class Validation:
    """Reconstructs some slices without some of their views, and asks which strength meets those views best.

    The shadow reconstruction goes the same way as the real one. Its late steps are repeated with the adapters
    of those steps at each of ``strengths``: 0 is no adaptation at all, so that what does not help is taken
    back. Every strength is tried from the same state with the same noise, which makes small differences tell.
    """

    def __init__(self, sampler: Sampler, settings: ValidationSettings) -> None:
        self.settings, self.communicator = settings, sampler.communicator
        self.problem = sampler.problem
        spacing = 1 if sampler.rule.couples_slices else max(1, self.problem.num_slices // settings.num_slices)
        self.seen, self.mask = held_out(self.problem, spacing, settings.held_out_share, sampler.seed)
        self.rows = [z - self.problem.slab.start for z in _every(self.problem.slab, spacing)]
        self.shadow = sampler.on(self.seen)
        self.late: Sampler | None = None
        self.adapters: list[tuple[int, Adapter]] = []

    def num_calls(self, num_early: int, num_late: int) -> int:
        """Network calls over the whole volume, for so many early and late steps."""
        return self.seen.num_slices * (num_early + len(self.settings.strengths) * num_late)

    def first_pass(self, i: int, is_late: bool, network: Network | None) -> None:
        """The shadow's step ``i``, by the real one's ``network``; only up to where the late steps begin."""
        if is_late and self.late is None:
            self.late = self.shadow.fork()
        if self.late is None:
            self.shadow.advance(i, network)

    def remember(self, i: int, adapter: Adapter) -> None:
        """The adapter that the late step ``i`` will use."""
        self.adapters.append((i, adapter.copy()))

    def choose(self) -> tuple[float, str]:
        """The strength with the least misfit of the held-out measurements, and why."""
        misfits = {strength: self.misfit(strength) for strength in sorted(self.settings.strengths)}
        found = ", ".join(f"{misfit:.5f} at {strength:g}" for strength, misfit in misfits.items())
        strength = least(misfits)
        return strength, f"adapted at strength {strength:.3g}; misfit of held-out views {found}"

    def misfit(self, strength: float) -> float:
        """‖A x − y‖/‖y‖ over the held-out measurements of all workers, after late steps at ``strength``."""
        assert self.late is not None
        shadow = self.late.fork()
        for i, adapter in self.adapters:
            with torch.no_grad():
                shadow.advance(i, adapter.bind(shadow.prior.network, strength))
        sums = torch.zeros(2, dtype=torch.float64, device=shadow.x0.device)
        if self.rows:  # a small slab may have none of these slices
            y = (1 - self.mask) * self.problem.y[self.rows]
            missed = (1 - self.mask) * self.problem.operator.of_slices(self.rows).forward(shadow.x0) - y
            sums = torch.stack([squared_modulus(part).double().sum() for part in (missed, y)])
        total, signal = self.communicator.all_reduce(sums).tolist()
        return math.sqrt(total / max(signal, torch.finfo(torch.float64).tiny))


def least(misfits: Mapping[float, float]) -> float:
    """Where the square of the misfit is least: of the parabola through the least one and its neighbours.

    At either end, the end; of equals the weakest.
    """
    strengths = sorted(misfits)
    k = min(range(len(strengths)), key=lambda k: misfits[strengths[k]])
    if k in (0, len(strengths) - 1):
        return strengths[k]
    a, b, c = strengths[k - 1 : k + 2]
    left, right = ((misfits[s] ** 2 - misfits[b] ** 2) / (s - b) for s in (a, c))
    # left <= 0 <= right are the slopes of the two chords, those of the parabola at their middles.
    return b if left == right else (a + b) / 2 - left * (c - a) / 2 / (right - left)


def held_out(problem: SlabProblem, spacing: int, share: float, seed: int) -> tuple[SlabProblem, Tensor]:
    """Every ``spacing``-th slice without ``share`` of its views or samples, and the mask of those it keeps.

    Which is drawn for every slice. The mask is (z, *measurement), broadcastable.
    """
    indices, A = list(_every(problem.slab, spacing)), problem.operator
    rows = [z - problem.slab.start for z in indices]
    numbers = [key(seed, _VIEWS, z) for z in indices]
    kept = [_kept(A.of_slices([row]), share, n) for row, n in zip(rows, numbers, strict=True)]
    mask = torch.stack(kept).to(problem.y.device) if kept else problem.y.real.new_ones(0, 1, 1)
    slab = Slab(-(-problem.slab.start // spacing), -(-problem.slab.stop // spacing))
    earlier = None if problem.earlier is None else problem.earlier[rows]
    seen = SlabProblem(
        Masked(A.of_slices(rows), mask),
        mask * problem.y[rows],
        slab,
        -(-problem.num_slices // spacing),
        problem.noise_std,
        earlier,
        norm=problem.operator_norm(),
    )
    return seen, mask


def _kept(operator: LinearOperator, share: float, number: int) -> Tensor:
    """1 for the measurements of a slice that are kept, 0 for a ``share`` of them; ``number`` chooses."""
    if isinstance(operator, Sense):
        return _kept_samples(operator.sampling_mask[0, 0].cpu(), share, number)[None]
    num_views = operator.measurement_shape[0]
    kept = torch.ones(num_views, 1)
    kept[_spread(num_views, share, number)] = 0
    return kept


def _kept_samples(sampling_mask: Tensor, share: float, number: int) -> Tensor:
    """Of lines or points, whichever k-space was taken in; the centre, from which the phase comes, stays."""
    kept, outside = torch.ones_like(sampling_mask), sampling_mask.clone()
    central_square(outside, min(calibration_size(sampling_mask), _LARGEST_CENTRE)).zero_()
    if not bool(outside.any()):
        raise InputError("adaptation.policy auto: k-space has nothing to hold out", "Use --adapt fixed.")
    lines = torch.nonzero(outside.amin(1))[:, 0]
    if len(lines) and bool((sampling_mask == sampling_mask[:, :1]).all()):
        kept[lines[_spread(len(lines), share, number)]] = 0
        return kept
    points = torch.nonzero(outside)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(number))
    chosen = points[order[: max(1, round(share * len(points)))]]
    kept[chosen[:, 0], chosen[:, 1]] = 0
    return kept


def _spread(count: int, share: float, number: int) -> list[int]:
    """``share`` of ``count`` indices, at least one, evenly spread."""
    chosen = max(1, round(share * count))
    return [(number % count + k * count // chosen) % count for k in range(chosen)]


def _every(slab: Slab, spacing: int) -> Sequence[int]:
    """Multiples of ``spacing`` in the slab, so that the choice does not know the slabs."""
    return range(-(-slab.start // spacing) * spacing, slab.stop, spacing)
