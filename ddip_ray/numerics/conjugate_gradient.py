"""Conjugate gradients for least squares, for many slices at once, each with its own step sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ddip_ray.numerics.inner_product import slice_dot_real, slice_scale

Blocks = tuple[Tensor, ...]  # one tensor for each term of a sum of squares


class CGResult(NamedTuple):
    """The solution that `cgls` found, and how it got there.

    Attributes:
        x: solution, ``(z, ...)``.
        residual_norms: ‖Σ A_kᴴ (r_k − A_k x)‖ before the first and after each iteration, detached,
            ``(iterations run + 1, z)``.
        converged: whether each slice met ``tol`` (with ``tol`` 0: the norm is zero), ``(z,)`` bool.
    """

    x: Tensor
    residual_norms: Tensor
    converged: Tensor


def squared_norms(blocks: Blocks) -> Tensor:
    """Return Σ ‖block‖² of each slice, ``(z,)``."""
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
    """Minimise Σ ‖A_k x − r_k‖² over x by CG from zero.

    To start from an estimate, let ``r`` be the residual of the estimate, and add the solution to it. Rounding
    and tolerance are then relative to the correction.

    Each slice is a system of its own. A slice that has converged stays as it is while others continue, and
    its bits do not depend on the others in the batch. Nothing is changed in place, so that gradients pass
    through the truncated solve to ``r`` and to tensors inside the maps.

    The recurrence keeps the residual of the measurements, not that of the normal equations. There, rounding
    would be divided by squared singular values, and in float32 a hundred iterations on a limited angle would
    end in noise.

    Args:
        forward: maps x ``(z, ...)`` to (A_1 x, A_2 x, …), each ``(z, ...)``; acts on slices independently
            unless ``norms`` couples them.
        adjoint: maps (r_1, r_2, …) to Σ A_kᴴ r_k.
        r: right-hand sides (r_1, r_2, …), real or complex, each ``(z, ...)``.
        num_iters: largest number of iterations; with ``tol`` 0 exactly this number is run.
        tol: relative tolerance. With s = Σ A_kᴴ (r_k − A_k x), a slice stops when ‖s‖ is at most ``tol``
            times its first value, or at most tol ‖A‖ ‖r − A x‖. The second criterion is LSQR's (Paige and
            Saunders, LSQR, ACM TOMS 1982, doi:10.1145/355984.355989), with a lower bound of ‖A‖; it ends a
            solve whose ``r`` is already the residual of a solution.
        norms: returns Σ ‖block‖² of each slice, ``(z,)``; or one number for all slices if the maps couple
            them, for example summed over workers.

    Returns:
        Solution, norms of the gradient s, and which slices converged.

    Source: Björck, Elfving and Strakoš, Stability of Conjugate Gradient and Lanczos Methods for Linear Least
    Squares Problems (1998), doi:10.1137/S089547989631202X, algorithm CGLS1.
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
        # ‖A p‖²/‖p‖²; ‖p‖² and ‖r‖² by their recurrences, which cost nothing and need not be exact.
        largest_gain = torch.maximum(largest_gain, _safe_ratio(qq, pp, active).detach())
        rr, pp = rr - (alpha * ss).detach(), (ss_next + beta**2 * pp).detach()
        threshold = torch.maximum(threshold, tol**2 * largest_gain * rr)
        ss = ss_next
        history.append(ss.detach())
    return CGResult(x, torch.stack(history).sqrt(), ss.detach() <= threshold)


def _safe_ratio(numerator: Tensor, denominator: Tensor, active: Tensor) -> Tensor:
    """Return numerator / denominator where active, else 0, with no NaN in value or gradient."""
    usable = active & (denominator.detach() > 0)
    return torch.where(usable, numerator / torch.where(usable, denominator, 1.0), 0.0)
