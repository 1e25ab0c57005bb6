"""Synthetic sensitivity maps and phase, which turn a magnitude image into a multi-coil object."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex64]

_RING = 1.4  # radius of the ring of coils, in half slices
_REACH = 0.9  # distance at which a coil's sensitivity falls off, in half slices
_PHASE_ORDER = 3  # of the polynomial
_PHASE_SPREAD = 0.6  # radians a coefficient
_COIL_PHASE_SPREAD = 0.4


def coil_maps(num_coils: int, slices: range, volume_shape: tuple[int, int, int], seed: int) -> Complex:
    """Smooth sensitivity maps of coils on a ring; at each pixel their squared magnitudes add up to 1.

    Coils stand alternately above and below the volume's middle. Their sensitivity falls off with the distance
    like the field of a loop along its axis, and each has its own smooth phase.

    Args:
        num_coils: Number of coils.
        slices: Which slices of the volume.
        volume_shape: Shape (z, y, x) of the volume.
        seed: Seed of the phases.

    Returns:
        Maps (z, coil, y, x).
    """
    z, y, x = _grid(slices, volume_shape)
    rng = np.random.default_rng([seed, 1])
    maps = []
    for coil in range(num_coils):
        angle = 2 * math.pi * coil / num_coils
        height = 0.5 * (-1) ** coil
        squared = (z - height) ** 2 + (y - _RING * math.sin(angle)) ** 2 + (x - _RING * math.cos(angle)) ** 2
        phase = angle + _COIL_PHASE_SPREAD * _polynomial(rng, 2, z, y, x)
        maps.append((squared + _REACH**2) ** -1.5 * np.exp(1j * phase))
    stacked = np.stack(maps, axis=1)
    total = np.sqrt(np.square(np.abs(stacked)).sum(axis=1, keepdims=True))
    return np.asarray(stacked / total, dtype=np.complex64)


def smooth_phase(slices: range, volume_shape: tuple[int, int, int], seed: int) -> Complex:
    """The factor exp(iφ), (z, y, x), where φ is a random polynomial in z, y and x."""
    rng = np.random.default_rng([seed, 2])
    angle = _PHASE_SPREAD * _polynomial(rng, _PHASE_ORDER, *_grid(slices, volume_shape))
    return np.asarray(np.exp(1j * angle), dtype=np.complex64)


def _grid(slices: range, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], ...]:
    """Coordinates z, y and x, from −1 to 1 over the volume, for some of its slices."""
    axes = [np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in shape]
    return tuple(np.meshgrid(axes[0][slices.start : slices.stop], axes[1], axes[2], indexing="ij"))


def _polynomial(
    rng: np.random.Generator,
    order: int,
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.float64]:
    total = np.zeros(z.shape)
    for i in range(order + 1):
        for j in range(order + 1 - i):
            for k in range(order + 1 - i - j):
                total += rng.standard_normal() * z**i * y**j * x**k
    return total
