"""A linear map as a differentiable function: its pull-back is its adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def linear(x: Tensor, forward: Map, adjoint: Map) -> Tensor:
    """``forward(x)``, differentiated by ``adjoint`` however often, and not through what ``forward`` does."""
    return cast(Tensor, _Linear.apply(x, forward, adjoint))  # type: ignore[no-untyped-call]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Map, adjoint: Map) -> Tensor:
        ctx.forward_map, ctx.adjoint_map = forward, adjoint
        return forward(x.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return linear(grads[0], ctx.adjoint_map, ctx.forward_map), None, None
