"""The parallel-beam scan of larger pixels that is as undersampled as a given one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry

_SAME_ANGLE = 1e-6  # radians


def coarse_geometry(geometry: ParallelBeamGeometry, downsampling: int) -> ParallelBeamGeometry:
    """Return the geometry of larger pixels and detector columns, and of fewer views.

    Every ``downsampling``-th of the views in distinct directions is kept. An image k times smaller, measured
    from k times fewer views, lacks the same frequencies in cycles per pixel. Rows and columns that fill no
    whole pixel are dropped.

    Args:
        geometry: geometry of the real scan.
        downsampling: side of the larger pixels in pixels.

    Raises:
        InputError: fewer than two views would be left, or no pixel or detector column.
    """
    views, needed = distinct_views(geometry.angles), 2 * downsampling
    if len(views) < needed:
        raise InputError(
            f"downsampling {downsampling} needs {needed} views from different directions or more, "
            f"found {len(views)}"
        )
    ny, nx = geometry.image_shape
    largest = min(ny, nx, geometry.num_detectors)
    if not 1 <= downsampling <= largest:
        raise InputError(
            f"downsampling is {downsampling}, expected 1 to {largest} "
            f"for slices of {ny} x {nx} pixels and {geometry.num_detectors} detector columns"
        )
    return ParallelBeamGeometry(
        image_shape=(ny // downsampling, nx // downsampling),
        angles=tuple(geometry.angles[view] for view in views[::downsampling]),
        num_detectors=geometry.num_detectors // downsampling,
        pixel_size=downsampling * geometry.pixel_size,
        detector_spacing=downsampling * geometry.detector_spacing,
        rotation_center=(geometry.rotation_center - (downsampling - 1) / 2) / downsampling,
    )


def distinct_views(angles: Sequence[float]) -> list[int]:
    """Return the indices of one view for each direction, sorted by direction.

    Views at θ and θ + π measure the same rays. ``angles`` are in radians.
    """
    order: list[int] = []
    for view in sorted(range(len(angles)), key=lambda v: angles[v] % math.pi):
        if not order or angles[view] % math.pi - angles[order[-1]] % math.pi > _SAME_ANGLE:
            order.append(view)
    if angles[order[-1]] % math.pi - angles[order[0]] % math.pi > math.pi - _SAME_ANGLE:
        order.pop()  # just below π is the direction of 0
    return order


def field_of_view(geometry: ParallelBeamGeometry) -> Tensor:
    """Return a mask (y, x) of the pixels that every view sees, boolean.

    All pixels are in it if the rotation axis lies beside the detector, where no pixel is seen by every view.
    """
    ny, nx = geometry.image_shape
    columns = min(geometry.rotation_center, geometry.num_detectors - 1 - geometry.rotation_center)
    radius = columns * geometry.detector_spacing
    y, x = torch.arange(ny) - (ny - 1) / 2, torch.arange(nx) - (nx - 1) / 2
    seen = torch.hypot(y[:, None], x) * geometry.pixel_size <= radius
    return seen if bool(seen.any()) else torch.ones_like(seen)
