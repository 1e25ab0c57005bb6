"""Differences between neighbours along an axis, without wrapping around its ends."""

from __future__ import annotations

import torch
from torch import Tensor


def difference(x: Tensor, axis: int) -> Tensor:
    """Return ``x[i + 1] − x[i]`` along ``axis``; n entries give n − 1."""
    n = x.shape[axis]
    return x.narrow(axis, 1, n - 1) - x.narrow(axis, 0, n - 1)


def difference_adjoint(d: Tensor, axis: int) -> Tensor:
    """Return the transpose of `difference`: ``d[i − 1] − d[i]`` with zeros beyond the ends, n entries."""
    edge = d.new_zeros(()).expand([1 if i == axis % d.ndim else size for i, size in enumerate(d.shape)])
    return torch.cat([edge, d], axis) - torch.cat([d, edge], axis)
