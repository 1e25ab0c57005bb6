"""The noise of a store, as a problem needs it."""

from __future__ import annotations

from ddip_ray.io.stores.schema import MeasuredNoise, Noise


def noise_std(noise: Noise) -> float:
    """Return the standard deviation of a stored measurement; 0 for noise-free data or unknown noise."""
    return getattr(noise, "std", None) or 0.0


def is_estimated(noise: Noise) -> bool:
    """Return whether the noise was estimated from the measurements themselves."""
    return isinstance(noise, MeasuredNoise)
