"""Least squares for many slices at once by conjugate gradients, each slice with its own step sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ddip_ray.operators.inner_product import slice_dot, slice_scale

Blocks = tuple[Tensor, ...]  # right-hand sides, or residuals, of the terms of a sum of squares


class CGResult(NamedTuple):
    """What ``cgls`` returns.

    Attributes:
        x: solution, ``(z, ...)``.
        residual_norms: ‖Σ A_kᴴ (y_k − A_k x)‖ before the first and after each iteration, detached,
            ``(iterations run + 1, z)``.
        converged: whether that is at most ``tol · ‖Σ A_kᴴ y_k‖`` (with ``tol`` 0: zero), ``(z,)`` bool.
    """

    x: Tensor
    residual_norms: Tensor
    converged: Tensor


def squared_norms(blocks: Blocks) -> Tensor:
    """Σ ‖block‖² of each slice, ``(z,)``."""
    first, *others = [slice_dot(block, block).real for block in blocks]
    return sum(others, first)


def cgls(
    forward: Callable[[Tensor], Blocks],
    adjoint: Callable[[Blocks], Tensor],
    y: Blocks,
    x0: Tensor,
    num_iters: int,
    *,
    tol: float = 0.0,
    norms: Callable[[Blocks], Tensor] = squared_norms,
) -> CGResult:
    """Minimise Σ ‖A_k x − y_k‖² by ``num_iters`` iterations of CG from ``x0``.

    Each slice is a system of its own: a slice that has converged stays as it is while others go on, and a
    slice does not change a bit with the others in the batch. Out-of-place throughout, so that a gradient
    can pass through the truncated solve to ``y``, ``x0`` and what the maps close over.

    The residual is kept where the measurements are: on the normal equations rounding would be divided by
    squared singular values, and in float32 a hundred iterations on a limited angle would end in noise.

    Args:
        forward: x ``(z, ...)`` to (A_1 x, A_2 x, …), each ``(z, ...)``, acting on slices independently
            unless ``norms`` couples them.
        adjoint: (r_1, r_2, …) to Σ A_kᴴ r_k.
        y: the terms' right-hand sides, real or complex.
        x0: start.
        num_iters: iterations at most. Without ``tol`` exactly so many are run.
        tol: a slice stops where ‖Σ A_kᴴ r_k‖ ≤ tol · ‖Σ A_kᴴ y_k‖.
        norms: Σ ‖block‖² of each slice, ``(z,)``; or, for maps that couple slices, one number for all,
            e.g. summed over workers.

    Source: Björck, Elfving and Strakoš (1998), doi:10.1137/S089547989631202X, algorithm CGLS1.
    """
    r = tuple(target - measured for target, measured in zip(y, forward(x0), strict=True))
    s = adjoint(r)
    x, p = x0, s
    ss = norms((s,))
    threshold = tol**2 * norms((adjoint(y),)).detach() if tol > 0 else torch.zeros_like(ss)
    history = [ss.detach()]
    for _ in range(num_iters):
        active = ss.detach() > threshold
        if tol > 0 and not bool(active.any()):  # without tol no value is ever awaited from a GPU
            break
        q = forward(p)
        alpha = _safe_ratio(ss, norms(q), active)
        x = x + slice_scale(alpha, p)
        r = tuple(old - slice_scale(alpha, new) for old, new in zip(r, q, strict=True))
        s = adjoint(r)
        ss_next = torch.where(active, norms((s,)), ss)
        p = s + slice_scale(_safe_ratio(ss_next, ss, active), p)
        ss = ss_next
        history.append(ss.detach())
    return CGResult(x, torch.stack(history).sqrt(), ss.detach() <= threshold)


def _safe_ratio(numerator: Tensor, denominator: Tensor, active: Tensor) -> Tensor:
    """numerator / denominator where active, else 0, with no NaN in value or gradient."""
    usable = active & (denominator.detach() > 0)
    return torch.where(usable, numerator / torch.where(usable, denominator, 1.0), 0.0)
