"""Forward operators: linear maps from slices to measurements, with exact adjoints."""

from ddip_ray.operators.base import LinearOperator
from ddip_ray.operators.coarse_scan import CoarseScan
from ddip_ray.operators.ct.filtered_backprojection import filtered_backprojection
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.operators.masked import Masked
from ddip_ray.operators.mri.cartesian import Sense
from ddip_ray.operators.mri.noncartesian import NonCartesianSense

__all__ = [
    "CoarseScan",
    "LinearOperator",
    "Masked",
    "NonCartesianSense",
    "ParallelBeam",
    "ParallelBeamGeometry",
    "Sense",
    "filtered_backprojection",
]
