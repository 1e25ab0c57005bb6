"""The table of five numbers for each view by which a projector knows its geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddip_ray.operators.ct.geometry import ParallelBeamGeometry

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class ViewTable:
    """The weights between pixels and rays, as a hat function in detector columns.

    Pixel (iy, ix) projects onto column ``c = offset + step_y · iy + step_x · ix`` of a view, and
    its weight with the ray of column k is ``scale · max(0, 1 − |k − c| / half_width)``.

    All arrays are ``(view,)`` float64: positions of hundreds of columns need more than the
    24 bits of a float32 for weights that are good to 1e-7.
    """

    offset: Float64
    step_y: Float64
    step_x: Float64
    half_width: Float64
    scale: Float64

    def views(self, start: int, stop: int) -> ViewTable:
        """Return the table of the views start ... stop − 1."""
        part = slice(start, stop)
        return ViewTable(
            self.offset[part], self.step_y[part], self.step_x[part], self.half_width[part], self.scale[part]
        )

    @property
    def num_views(self) -> int:
        """Number of views."""
        return len(self.offset)

    @property
    def num_tap_pairs(self) -> NDArray[np.int64]:
        """Number of pairs of neighbouring columns that cover the hat of a pixel, for each view."""
        # At most ceil(2 h) columns lie strictly inside an interval of length 2 h.
        return np.ceil(np.ceil(2 * self.half_width) / 2).astype(np.int64)


def joseph_table(geometry: ParallelBeamGeometry) -> ViewTable:
    """Return the weights of Joseph's projector (1982, doi:10.1109/TMI.1982.4307572).

    Joseph walks along the ray's main axis and interpolates linearly between the two nearest
    pixels of each row (or column). With m = max(|cos θ|, |sin θ|) the ray crosses a row in steps of
    1/m pixels of length, and the distance along the row from ray to pixel is the distance between
    their projections divided by m. Hence weight = pixel_size/m · max(0, 1 − |s − s0|/(m·pixel_size)).
    Seen from the ray or from the pixel it is the same hat, so both directions can be gathers and still be
    exact adjoints.
    """
    step_y, step_x, offset = _projected_pixel_grid(geometry)
    half_width = np.maximum(np.abs(step_y), np.abs(step_x))
    # half_width = m · pixel_size / detector_spacing
    scale = geometry.pixel_size**2 / (half_width * geometry.detector_spacing)
    return ViewTable(offset, step_y, step_x, half_width, scale)


def interpolation_table(geometry: ParallelBeamGeometry, view_weights: Float64) -> ViewTable:
    """Return the weights by which FBP back-projects: linear interpolation between detector columns.

    They are not those of an adjoint of any projector here.

    Args:
        geometry: geometry of the scan.
        view_weights: weight of each view, (view,).
    """
    step_y, step_x, offset = _projected_pixel_grid(geometry)
    return ViewTable(offset, step_y, step_x, np.ones_like(offset), view_weights)


def _projected_pixel_grid(geometry: ParallelBeamGeometry) -> tuple[Float64, Float64, Float64]:
    ny, nx = geometry.image_shape
    angles = np.asarray(geometry.angles, dtype=np.float64)
    columns_per_pixel = geometry.pixel_size / geometry.detector_spacing
    step_x = columns_per_pixel * np.cos(angles)
    step_y = -columns_per_pixel * np.sin(angles)  # the row index grows along −y
    offset = geometry.rotation_center - step_x * (nx - 1) / 2 - step_y * (ny - 1) / 2
    return step_y, step_x, offset
