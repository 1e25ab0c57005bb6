"""What a store says of its noise, as a problem needs it."""

from __future__ import annotations

from ddip_ray.io.stores.schema import MeasuredNoise, Noise


def noise_std(noise: Noise) -> float:
    """Standard deviation of a stored measurement; 0 for clean or unknown noise."""
    return getattr(noise, "std", None) or 0.0


def is_estimated(noise: Noise) -> bool:
    """Whether it was found in the measurements themselves."""
    return isinstance(noise, MeasuredNoise)
