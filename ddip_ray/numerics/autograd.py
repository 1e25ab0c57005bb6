"""Linear maps that autograd differentiates by their adjoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def linear_function(x: Tensor, forward: Map, adjoint: Map) -> Tensor:
    """Return ``forward(x)``, whose gradient is ``adjoint``, to any order.

    Autograd does not look inside ``forward``, which may leave torch for other libraries.
    """
    return cast(Tensor, _Linear.apply(x, forward, adjoint))  # type: ignore[no-untyped-call]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Map, adjoint: Map) -> Tensor:
        ctx.forward_map, ctx.adjoint_map = forward, adjoint
        return forward(x.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return linear_function(grads[0], ctx.adjoint_map, ctx.forward_map), None, None
