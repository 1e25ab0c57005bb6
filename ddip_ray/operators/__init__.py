"""Physics: linear operators with exact adjoints, and the plain mathematics that solvers build on."""

from ddip_ray.operators.conjugate_gradient import CGResult, cgls
from ddip_ray.operators.filtered_backprojection import filtered_backprojection
from ddip_ray.operators.finite_difference import difference, difference_adjoint
from ddip_ray.operators.geometry import ParallelBeamGeometry
from ddip_ray.operators.inner_product import slice_dot, slice_dot_real, slice_norm, slice_scale
from ddip_ray.operators.noncartesian_sense import NonCartesianSense
from ddip_ray.operators.operator_norm import operator_norm
from ddip_ray.operators.parallel_beam import ParallelBeam
from ddip_ray.operators.protocol import LinearOperator, gram
from ddip_ray.operators.sense import Sense

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
