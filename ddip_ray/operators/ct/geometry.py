"""The geometry of a parallel-beam scan, as a frozen value that can be pickled and written to a file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ddip_ray.errors import InputError


@dataclass(frozen=True)
class ParallelBeamGeometry:
    """The positions of pixels, views and detector columns in a parallel-beam scan.

    Axes: column index grows along +x (right); row 0 is on top, so the row index grows along
    **−y**. The origin is the image centre, ``((ny − 1) / 2, (nx − 1) / 2)``, and the rotation
    axis passes through it. A pixel in row ``iy`` and column ``ix`` lies at

        x = (ix − (nx − 1) / 2) · pixel_size,   y = ((ny − 1) / 2 − iy) · pixel_size.

    The ray of view θ (counter-clockwise) and detector column k is the line

        x cos θ + y sin θ = (k − rotation_center) · detector_spacing.

    This is the convention of scikit-image's ``radon``, with two differences: its axis
    passes through pixel ``n // 2`` instead of ``(n − 1) / 2`` and hits detector column
    ``n // 2``; and it counts in pixels. For odd n with unit sizes and
    ``rotation_center = n // 2`` the two agree as they are; for even n, theirs is ours shifted by
    half a pixel in both image axes.

    Attributes:
        image_shape: ``(ny, nx)`` of a slice.
        angles: one angle for each view, radians, any order. Any sequence of numbers is accepted
            and stored as a tuple.
        num_detectors: detector columns.
        pixel_size: side of the square pixel, in any unit of length (mm in our stores).
        detector_spacing: distance between detector columns, same unit.
        rotation_center: 0-based, possibly fractional detector column that the rotation axis hits.

    Raises:
        InputError: a field is empty, not finite or not positive.
    """

    image_shape: tuple[int, int]
    angles: tuple[float, ...]
    num_detectors: int
    pixel_size: float
    detector_spacing: float
    rotation_center: float

    def __post_init__(self) -> None:
        # Arrays and numpy scalars become plain numbers: hashable, comparable, JSON-ready.
        ny, nx = self.image_shape
        object.__setattr__(self, "image_shape", (int(ny), int(nx)))
        object.__setattr__(self, "angles", tuple(float(angle) for angle in self.angles))
        object.__setattr__(self, "num_detectors", int(self.num_detectors))
        for name in ("pixel_size", "detector_spacing", "rotation_center"):
            object.__setattr__(self, name, float(getattr(self, name)))
        _check(self)

    @classmethod
    def centered(
        cls,
        image_shape: tuple[int, int],
        angles: Iterable[float],
        num_detectors: int,
        pixel_size: float = 1.0,
        detector_spacing: float | None = None,
    ) -> ParallelBeamGeometry:
        """Return the geometry whose rotation axis hits the middle of the detector.

        Args:
            image_shape: ``(ny, nx)`` of a slice.
            angles: one angle for each view, radians, in any order.
            num_detectors: detector columns.
            pixel_size: side of the square pixel, in any unit of length.
            detector_spacing: distance between detector columns, same unit; None: ``pixel_size``.

        Raises:
            InputError: a value that makes no scan.
        """
        return cls(
            image_shape=image_shape,
            angles=tuple(angles),
            num_detectors=num_detectors,
            pixel_size=pixel_size,
            detector_spacing=pixel_size if detector_spacing is None else detector_spacing,
            rotation_center=(num_detectors - 1) / 2,
        )

    @classmethod
    def equispaced(
        cls,
        image_shape: tuple[int, int],
        num_views: int,
        *,
        start_deg: float = 0.0,
        range_deg: float = 180.0,
        num_detectors: int | None = None,
        pixel_size: float = 1.0,
        detector_spacing: float | None = None,
    ) -> ParallelBeamGeometry:
        """Return the geometry of equally spaced views and a centred rotation axis.

        Args:
            image_shape: ``(ny, nx)`` of a slice.
            num_views: number of views.
            start_deg: angle of the first view in degrees.
            range_deg: angular range in degrees, whose end is left out; 180 measures every direction once.
            num_detectors: detector columns; None: enough to see the whole image from every view.
            pixel_size: side of the square pixel, in any unit of length.
            detector_spacing: distance between detector columns, same unit; None: ``pixel_size``.

        Raises:
            InputError: a value that makes no scan.
        """
        if num_views < 1:
            raise InputError(f"ParallelBeamGeometry: num_views is {num_views}, expected at least 1")
        spacing = pixel_size if detector_spacing is None else detector_spacing
        if num_detectors is None:
            num_detectors = math.ceil(math.hypot(*image_shape) * pixel_size / spacing)
        angles = [math.radians(start_deg + range_deg * view / num_views) for view in range(num_views)]
        return cls.centered(image_shape, angles, num_detectors, pixel_size, spacing)

    @property
    def num_views(self) -> int:
        """Number of views."""
        return len(self.angles)


def _check(geometry: ParallelBeamGeometry) -> None:
    counts = {
        "image_shape[0]": geometry.image_shape[0],
        "image_shape[1]": geometry.image_shape[1],
        "number of angles": geometry.num_views,
        "num_detectors": geometry.num_detectors,
    }
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"ParallelBeamGeometry: {name} is {count}, expected at least 1")
    for name in ("pixel_size", "detector_spacing"):
        size = getattr(geometry, name)
        if not (math.isfinite(size) and size > 0):
            raise InputError(f"ParallelBeamGeometry: {name} is {size}, expected a positive length")
    if not math.isfinite(geometry.rotation_center):
        raise InputError(
            f"ParallelBeamGeometry: rotation_center is {geometry.rotation_center}, expected a detector column"
        )
    bad_views = [view for view, angle in enumerate(geometry.angles) if not math.isfinite(angle)]
    if bad_views:
        raise InputError(f"ParallelBeamGeometry: angles of views {bad_views[:5]} are not finite")
