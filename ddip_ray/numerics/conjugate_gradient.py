"""Least squares for many slices at once by conjugate gradients, each slice with its own step sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ddip_ray.numerics.inner_product import slice_dot_real, slice_scale

Blocks = tuple[Tensor, ...]  # right-hand sides, or residuals, of the terms of a sum of squares


class CGResult(NamedTuple):
    """What ``cgls`` returns.

    Attributes:
        x: solution, ``(z, ...)``.
        residual_norms: ‖Σ A_kᴴ (r_k − A_k x)‖ before the first and after each iteration, detached,
            ``(iterations run + 1, z)``.
        converged: whether ``tol`` was met (with ``tol`` 0: the norm is zero), ``(z,)`` bool.
    """

    x: Tensor
    residual_norms: Tensor
    converged: Tensor


def squared_norms(blocks: Blocks) -> Tensor:
    """Σ ‖block‖² of each slice, ``(z,)``."""
    first, *others = [slice_dot_real(block, block) for block in blocks]
    return sum(others, first)


def cgls(
    forward: Callable[[Tensor], Blocks],
    adjoint: Callable[[Blocks], Tensor],
    r: Blocks,
    num_iters: int,
    *,
    tol: float = 0.0,
    norms: Callable[[Blocks], Tensor] = squared_norms,
) -> CGResult:
    """Minimise Σ ‖A_k x − r_k‖² by ``num_iters`` iterations of CG from zero.

    To go on from an estimate, let ``r`` be what it leaves unexplained, and add the solution to it: rounding
    and tolerance are then relative to the correction.

    Each slice is a system of its own: a slice that has converged stays as it is while others go on, and a
    slice does not change a bit with the others in the batch. Out-of-place throughout, so that a gradient
    can pass through the truncated solve to ``r`` and what the maps close over.

    The residual is kept where the measurements are: on the normal equations rounding would be divided by
    squared singular values, and in float32 a hundred iterations on a limited angle would end in noise.

    Args:
        forward: x ``(z, ...)`` to (A_1 x, A_2 x, …), each ``(z, ...)``, acting on slices independently
            unless ``norms`` couples them.
        adjoint: (r_1, r_2, …) to Σ A_kᴴ r_k.
        r: the terms' right-hand sides, real or complex.
        num_iters: iterations at most. Without ``tol`` exactly so many are run.
        tol: a slice stops where ‖s‖ is at most tol times what it was at first, or tol ‖A‖ ‖r − A x‖,
            s being Σ A_kᴴ (r_k − A_k x): more is rounding if ``r`` is what a solution leaves (LSQR's second
            criterion: Paige and Saunders 1982, doi:10.1145/355984.355989, with a lower bound of ‖A‖).
        norms: Σ ‖block‖² of each slice, ``(z,)``; or, for maps that couple slices, one number for all,
            e.g. summed over workers.

    Source: Björck, Elfving and Strakoš (1998), doi:10.1137/S089547989631202X, algorithm CGLS1.
    """
    s = p = adjoint(r)
    x = torch.zeros_like(s)
    ss = norms((s,))
    rr, pp = norms(r).detach(), ss.detach()
    largest_gain, threshold = torch.zeros_like(rr), tol**2 * ss.detach()
    history = [ss.detach()]
    for _ in range(num_iters):
        active = ss.detach() > threshold
        if tol > 0 and not bool(active.any()):  # without tol no value is ever awaited from a GPU
            break
        q = forward(p)
        qq = norms(q)
        alpha = _safe_ratio(ss, qq, active)
        x = x + slice_scale(alpha, p)
        r = tuple(old - slice_scale(alpha, new) for old, new in zip(r, q, strict=True))
        s = adjoint(r)
        ss_next = torch.where(active, norms((s,)), ss)
        beta = _safe_ratio(ss_next, ss, active)
        p = s + slice_scale(beta, p)
        # ‖A p‖²/‖p‖², and ‖p‖² and ‖r‖² by their recurrences: they cost nothing and only have to be near.
        largest_gain = torch.maximum(largest_gain, _safe_ratio(qq, pp, active).detach())
        rr, pp = rr - (alpha * ss).detach(), (ss_next + beta**2 * pp).detach()
        threshold = torch.maximum(threshold, tol**2 * largest_gain * rr)
        ss = ss_next
        history.append(ss.detach())
    return CGResult(x, torch.stack(history).sqrt(), ss.detach() <= threshold)


def _safe_ratio(numerator: Tensor, denominator: Tensor, active: Tensor) -> Tensor:
    """numerator / denominator where active, else 0, with no NaN in value or gradient."""
    usable = active & (denominator.detach() > 0)
    return torch.where(usable, numerator / torch.where(usable, denominator, 1.0), 0.0)
