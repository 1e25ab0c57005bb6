"""The same scan of larger pixels: what the twins of a reconstruction are scanned by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.operators.base import LinearOperator
from ddip_ray.operators.ct.coarse import downsampled, field_of_view
from ddip_ray.operators.ct.missing_wedge import turns_off_the_wedge
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.operators.mri.cartesian import Sense
from ddip_ray.operators.mri.coarse import downsampled_noncartesian, downsampled_sense
from ddip_ray.operators.mri.multi_coil import MultiCoil
from ddip_ray.operators.mri.noncartesian import NonCartesianSense


@dataclass(frozen=True)
class SmallerScan:
    """``operator`` for smaller images, the pixels it knows (y, x), turns of the image in whole degrees to
    choose among, and the factor to the noise that makes its images as noisy, pixel by pixel."""

    operator: LinearOperator
    known: Tensor
    turns: list[int]
    noise_factor: float


def smaller_scan(operator: LinearOperator, downsampling: int) -> SmallerScan:
    """The scan of pixels ``downsampling`` times larger: one view in as many, as large a share of k-space."""
    if isinstance(operator, Sense | NonCartesianSense):
        sense: MultiCoil
        if isinstance(operator, Sense):
            sense = downsampled_sense(operator, downsampling)
        else:
            sense = downsampled_noncartesian(operator, downsampling)
        known = torch.ones(sense.image_shape, device=sense.sampling_mask.device)
        return SmallerScan(sense, known, list(range(180)), 1.0)
    if isinstance(operator, ParallelBeam):
        beam, angles = downsampled(operator, downsampling), operator.geometry.angles
        # Larger pixels average, fewer views do not.
        factor = downsampling * math.sqrt(beam.geometry.num_views / operator.geometry.num_views)
        return SmallerScan(beam, field_of_view(beam), turns_off_the_wedge(angles), factor)
    raise TypeError(f"smaller_scan: unknown operator {type(operator).__name__}")
