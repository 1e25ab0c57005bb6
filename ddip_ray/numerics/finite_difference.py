"""Differences between neighbours along an axis, with the ends left alone."""

from __future__ import annotations

import torch
from torch import Tensor


def difference(x: Tensor, axis: int) -> Tensor:
    """``x[i + 1] − x[i]`` along ``axis``: n entries give n − 1. Nothing wraps around the ends."""
    n = x.shape[axis]
    return x.narrow(axis, 1, n - 1) - x.narrow(axis, 0, n - 1)


def difference_adjoint(d: Tensor, axis: int) -> Tensor:
    """Transpose of ``difference``: n − 1 entries give n, ``d[i − 1] − d[i]`` with zeros beyond the ends."""
    edge = d.new_zeros(()).expand([1 if i == axis % d.ndim else size for i, size in enumerate(d.shape)])
    return torch.cat([edge, d], axis) - torch.cat([d, edge], axis)
