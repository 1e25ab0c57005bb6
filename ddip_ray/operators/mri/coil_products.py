"""Products of slices with coil maps, bit-identical for a slice whatever else is in the batch.

On a CPU they are compiled: torch's complex multiplication rounds otherwise in the remainder of a vector loop,
and real products of strided parts take ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.numerics.jit import compiled

Complex = NDArray[Any]  # complex64 or complex128


def times(a: Tensor, b: Tensor) -> Tensor:
    """Return a · b, (z, coil, y, x); either may have one slice or one coil for all."""
    if a.device.type != "cpu":
        return a * b
    out = _flat(_times, a, b)
    return out.reshape(*out.shape[:2], *a.shape[-2:])


def combined(maps: Tensor, parts: Tensor) -> Tensor:
    """Return Σ conj(maps) · parts over the coils, (z, coil, y, x) to (z, y, x)."""
    if parts.device.type != "cpu":
        return (maps.conj() * parts).sum(1)
    return _flat(_combined, maps, parts).reshape(-1, *parts.shape[-2:])


def _flat(kernel: Callable[[Any, Any], Any], a: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(kernel(*(t.resolve_conj().flatten(2).contiguous().numpy() for t in (a, b))))


@compiled
def _times(a: Complex, b: Complex) -> Complex:
    """Return a · b of arrays (z, coil, n), a new array."""
    num_slices = len(a) if len(b) == 1 else len(b)
    num_coils = max(a.shape[1], b.shape[1])
    out = np.empty((num_slices, num_coils, a.shape[2]), dtype=a.dtype)
    for z in range(num_slices):
        za, zb = min(z, len(a) - 1), min(z, len(b) - 1)
        for coil in range(num_coils):
            ca, cb = min(coil, a.shape[1] - 1), min(coil, b.shape[1] - 1)
            for i in range(a.shape[2]):
                out[z, coil, i] = a[za, ca, i] * b[zb, cb, i]
    return out


@compiled
def _combined(maps: Complex, parts: Complex) -> Complex:
    """Return the sum over the coils in their order: (z or 1, coil, n), (z, coil, n) to (z, n)."""
    out = np.zeros((len(parts), parts.shape[2]), dtype=parts.dtype)
    for z in range(len(parts)):
        zm = min(z, len(maps) - 1)
        for coil in range(parts.shape[1]):
            for i in range(parts.shape[2]):
                out[z, i] += np.conj(maps[zm, coil, i]) * parts[z, coil, i]
    return out
