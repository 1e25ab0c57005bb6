"""Physics: linear operators with exact adjoints, and the plain mathematics that solvers build on."""

from ddip_ray.numerics.conjugate_gradient import CGResult, cgls
from ddip_ray.numerics.finite_difference import difference, difference_adjoint
from ddip_ray.numerics.inner_product import slice_dot, slice_dot_real, slice_norm, slice_scale
from ddip_ray.numerics.operator_norm import operator_norm
from ddip_ray.operators.base import LinearOperator, gram
from ddip_ray.operators.ct.filtered_backprojection import filtered_backprojection
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.operators.mri.cartesian import Sense
from ddip_ray.operators.mri.noncartesian import NonCartesianSense

__all__ = [
    "CGResult",
    "LinearOperator",
    "NonCartesianSense",
    "ParallelBeam",
    "ParallelBeamGeometry",
    "Sense",
    "cgls",
    "difference",
    "difference_adjoint",
    "filtered_backprojection",
    "gram",
    "operator_norm",
    "slice_dot",
    "slice_dot_real",
    "slice_norm",
    "slice_scale",
]
