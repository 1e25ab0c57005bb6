"""Complex products of slices with coil maps on a CPU, rounded alike wherever a slice lies.

Torch's complex multiplication rounds otherwise in the remainder of a vector loop, and real products of
strided parts take ten times as long.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.numerics.jit import compiled

Complex = NDArray[Any]  # complex64 or complex128


@compiled
def times(a: Complex, b: Complex) -> Complex:
    """a · b of arrays (z, coil, n), of which either may have one slice or one coil for all; a new array."""
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
def combined(maps: Complex, parts: Complex) -> Complex:
    """Σ conj(maps) parts over the coils, in their order: (z or 1, coil, n), (z, coil, n) to (z, n)."""
    out = np.zeros((len(parts), parts.shape[2]), dtype=parts.dtype)
    for z in range(len(parts)):
        zm = min(z, len(maps) - 1)
        for coil in range(parts.shape[1]):
            for i in range(parts.shape[2]):
                out[z, i] += np.conj(maps[zm, coil, i]) * parts[z, coil, i]
    return out
