"""Random numbers as phantoms need them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform between those of ``low`` and ``high``."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def log_uniforms(rng: np.random.Generator, low: float, high: float, *shape: int) -> Array:
    """An array of ``shape`` of `log_uniform` numbers."""
    return np.exp(rng.uniform(math.log(low), math.log(high), shape))


def power_law(rng: np.random.Generator, n: int, low: float, high: float) -> Array:
    """``n`` radii of density r^−q between ``low`` and ``high``; q of 0.6 (many large) to 2.6 (few)."""
    p, u = 1 - rng.uniform(0.6, 2.6), rng.random(n)
    if abs(p) < 1e-3:
        return low * (high / low) ** u
    radius: Array = (low**p + u * (high**p - low**p)) ** (1 / p)
    return radius
