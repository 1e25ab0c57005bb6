"""The metadata of opened projections for an acquisition store: geometry, rotation centre, intensity scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.projections.line_integrals import ProjectionData
from ddip_ray.io.projections.rotation_center import MAX_ROWS, estimate_rotation_center
from ddip_ray.io.stores.schema import AcquisitionMetadata, Intensity, MeasuredNoise, ParallelCT

_MAX_PREVIEW_COLUMNS = 128
_TOP_PERCENTILE = 99.5


def projection_metadata(
    data: ProjectionData, *, rotation_center: float | None = None, scale: float | None = None
) -> AcquisitionMetadata:
    """Geometry and intensity of ``data``; None means: estimate it from up to 32 detector rows."""
    pixel_mm = data.pixel_mm or 1.0
    num_slices, _, num_detectors = data.line_integrals.shape
    rows = np.unique(np.linspace(0, num_slices - 1, min(num_slices, MAX_ROWS)).round().astype(int))
    sinograms = data.line_integrals[rows].compute(scheduler="threads")
    angles = np.asarray(data.angles_deg)
    history = []
    if rotation_center is None:
        found = estimate_rotation_center(sinograms, angles)
        rotation_center = found.column
        history.append(f"rotation centre {found.column:.2f} estimated from {found.method}")
    if scale is None:
        scale = estimate_attenuation(sinograms, angles, rotation_center, pixel_mm)
        history.append(f"intensity scale {scale:.4g} estimated")
    if data.pixel_mm is None:
        history.append("pixel size unknown: lengths are in pixels, called mm")
    return AcquisitionMetadata(
        acquisition=ParallelCT(
            angles_deg=data.angles_deg,
            num_detectors=num_detectors,
            detector_spacing_mm=pixel_mm,
            rotation_center=rotation_center,
            image_shape=(num_detectors, num_detectors),
            voxel_mm=(pixel_mm, pixel_mm, pixel_mm),
        ),
        intensity=Intensity(
            scale=scale, unit="1/mm" if data.pixel_mm else "1/pixel", measurement_scale=scale
        ),
        noise=MeasuredNoise(),
        source=data.source.noting(*history),
    )


def estimate_attenuation(
    sinograms: NDArray[np.floating],
    angles_deg: NDArray[np.floating],
    rotation_center: float,
    pixel_mm: float,
) -> float:
    """The attenuation in 1/mm that is to become 1: the 99.5th percentile of a coarse image.

    The image is a filtered backprojection with detectors binned to at most 128 and all views weighted alike,
    which is accurate enough for a scale.

    Args:
        sinograms: Line integrals (z, view, detector) of some slices.
        angles_deg: Projection angles (view,) in degrees.
        rotation_center: Detector column of the rotation axis.
        pixel_mm: Side of a detector pixel in mm.

    Raises:
        InputError: the projections show no attenuation.
    """
    factor = -(-sinograms.shape[2] // _MAX_PREVIEW_COLUMNS)
    size = sinograms.shape[2] // factor
    binned = np.asarray(sinograms[:, :, : size * factor], dtype=np.float64)
    binned = binned.reshape(*binned.shape[:2], size, factor).mean(axis=3)
    center = (rotation_center - (factor - 1) / 2) / factor
    ramp = 2 * np.abs(np.fft.rfftfreq(2 * size))
    filtered = np.fft.irfft(np.fft.rfft(binned, 2 * size, axis=2) * ramp, axis=2)[:, :, :size]
    radius = min(center, size - 1 - center)
    position = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(position, position, indexing="ij")
    inside = np.hypot(y, x) <= 0.95 * radius  # a cut-off object glows at the rim
    image = np.zeros((len(filtered), int(inside.sum())))
    for view, angle in enumerate(np.deg2rad(angles_deg)):
        column = center + x[inside] * np.cos(angle) + y[inside] * np.sin(angle)
        for row, line in enumerate(filtered[:, view]):
            image[row] += np.interp(column, np.arange(size), line)
    # pi over the number of views is the step of the integral over 180 degrees; half of it is in the ramp
    top = float(np.percentile(image, _TOP_PERCENTILE))
    attenuation: float = top * np.pi / (2 * len(angles_deg) * pixel_mm * factor)
    if not attenuation > 0:
        raise InputError(
            "the projections show no attenuation, so there is no intensity scale", "Give one: `scale`"
        )
    return attenuation
