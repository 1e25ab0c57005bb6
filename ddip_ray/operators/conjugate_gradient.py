"""Conjugate gradients for many slices at once, each with its own step sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ddip_ray.operators.inner_product import slice_dot, slice_scale

Dot = Callable[[Tensor, Tensor], Tensor]


class CGResult(NamedTuple):
    """What ``cg`` returns.

    Attributes:
        x: solution, ``(z, ...)``.
        residual_norms: ‖b − A x‖ before the first and after each iteration, detached,
            ``(iterations run + 1, z)``.
        converged: whether the residual is at most ``tol · ‖b‖`` (with ``tol`` 0: zero), ``(z,)`` bool.
    """

    x: Tensor
    residual_norms: Tensor
    converged: Tensor


def cg(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    x0: Tensor,
    num_iters: int,
    *,
    tol: float = 0.0,
    dot: Dot = slice_dot,
) -> CGResult:
    """Solve A x = b for Hermitian positive definite A by ``num_iters`` iterations from ``x0``.

    Each slice is a system of its own: a slice that has converged stays as it is while others go
    on, and a slice does not change a bit with the others in the batch. Out-of-place throughout,
    so that a gradient can pass through the truncated solve to ``b``, ``x0`` and what ``apply`` closes over.

    Args:
        apply: A on ``(z, ...)`` tensors, acting on slices independently unless ``dot`` couples them.
        b: right-hand side ``(z, ...)``, real or complex.
        x0: start, same shape.
        num_iters: iterations at most. Without ``tol`` exactly so many are run.
        tol: relative residual at which a slice stops.
        dot: ⟨a, b⟩ with the first argument conjugated, as ``(z,)``; or, for an A that couples slices, one
            number for all, e.g. summed over workers.

    Source: Hestenes and Stiefel (1952), doi:10.6028/jres.049.044.
    """

    def squared_norm(r: Tensor) -> Tensor:
        return dot(r, r).real

    r = b - apply(x0)
    x, p = x0, r
    rr = squared_norm(r)
    threshold = tol**2 * squared_norm(b).detach()
    history = [rr.detach()]
    for _ in range(num_iters):
        active = rr.detach() > threshold
        if tol > 0 and not bool(active.any()):  # without tol no value is ever awaited from a GPU
            break
        q = apply(p)
        alpha = _safe_ratio(rr, dot(p, q).real, active)
        x = x + slice_scale(alpha, p)
        r = r - slice_scale(alpha, q)
        rr_next = torch.where(active, squared_norm(r), rr)
        beta = _safe_ratio(rr_next, rr, active)
        p = r + slice_scale(beta, p)
        rr = rr_next
        history.append(rr.detach())
    return CGResult(x, torch.stack(history).sqrt(), rr.detach() <= threshold)


def _safe_ratio(numerator: Tensor, denominator: Tensor, active: Tensor) -> Tensor:
    """numerator / denominator where active, else 0, with no NaN in value or gradient."""
    usable = active & (denominator.detach() > 0)
    return torch.where(usable, numerator / torch.where(usable, denominator, 1.0), 0.0)
