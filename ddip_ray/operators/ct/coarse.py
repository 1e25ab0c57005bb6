"""A scan of larger pixels from fewer views, which misses what the given one misses, counted in pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import ParallelBeam

_SAME_ANGLE = 1e-6  # radians


def downsampled(operator: ParallelBeam, downsampling: int) -> ParallelBeam:
    """Pixels and detector columns ``downsampling`` times larger, one in as many of the distinct views.

    Rows and columns that fill no whole pixel are dropped.
    """
    geometry = operator.geometry
    ny, nx = geometry.image_shape
    small = ParallelBeamGeometry(
        image_shape=(ny // downsampling, nx // downsampling),
        angles=tuple(geometry.angles[v] for v in distinct_views(geometry.angles)[::downsampling]),
        num_detectors=geometry.num_detectors // downsampling,
        pixel_size=downsampling * geometry.pixel_size,
        detector_spacing=downsampling * geometry.detector_spacing,
        rotation_center=(geometry.rotation_center - (downsampling - 1) / 2) / downsampling,
    )
    return ParallelBeam(small, device=operator.device, dtype=operator.dtype)


def distinct_views(angles: tuple[float, ...]) -> list[int]:
    """Indices of views in the order of their angles modulo π, one for each direction."""
    order: list[int] = []
    for view in sorted(range(len(angles)), key=lambda v: angles[v] % math.pi):
        if not order or angles[view] % math.pi - angles[order[-1]] % math.pi > _SAME_ANGLE:
            order.append(view)
    if angles[order[-1]] % math.pi - angles[order[0]] % math.pi > math.pi - _SAME_ANGLE:
        order.pop()  # just below π is the direction of 0
    return order


def field_of_view(operator: ParallelBeam) -> Tensor:
    """1 where every view sees the pixel, (y, x); everywhere if the axis lies beside the detector."""
    g = operator.geometry
    ny, nx = g.image_shape
    radius = min(g.rotation_center, g.num_detectors - 1 - g.rotation_center) * g.detector_spacing
    y, x = torch.arange(ny) - (ny - 1) / 2, torch.arange(nx) - (nx - 1) / 2
    seen = torch.hypot(y[:, None], x) * g.pixel_size <= radius
    if not seen.any():
        seen = torch.ones_like(seen)
    return seen.to(operator.dtype).to(operator.device)
