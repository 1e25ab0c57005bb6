"""A scan of the same object with larger pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddip_ray.operators.base import LinearOperator


@dataclass(frozen=True)
class CoarseScan:
    """A scan of larger pixels that misses the same share of frequencies as the real one.

    Attributes:
        operator: forward operator for images of larger pixels.
        field_of_view: ``(y, x)``, 1 where every measurement sees the pixel, else 0.
        rotations_deg: rotations of the image in whole degrees, 0 to 179, to choose among: those that turn
            the directions that are not measured onto directions that are.
        noise_factor: factor on the standard deviation of the measurements' noise that makes the direct
            inverses of both scans equally noisy, pixel by pixel.
        sampling_mask: 1 where a measurement is taken, broadcastable to a stack of measurements; None:
            everywhere.
    """

    operator: LinearOperator
    field_of_view: Tensor
    rotations_deg: list[int]
    noise_factor: float
    sampling_mask: Tensor | None = None
