"""Import of measured projections into an acquisition store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.projections.line_integrals import ProjectionData, open_projections
from ddip_ray.io.projections.metadata import projection_metadata
from ddip_ray.io.stores.acquisition import Acquisition, create_acquisition
from ddip_ray.io.stores.schema import MeasuredNoise
from ddip_ray.tasks.progress import Report, silent

MAX_ROWS = 16


@dataclass(frozen=True)
class ProjectionChoice:
    """Which part of a projection file is used, and how it is read; fields as in `open_projections`."""

    angles_deg: str | None = None
    is_transmission: bool | None = None
    every_nth_view: int = 1
    rows: tuple[int, int] | None = None
    air_rows: tuple[int, int] | None = None
    repair: bool = False
    pixel_mm: float | None = None
    key: str | None = None


@dataclass(frozen=True)
class ImportSettings:
    """Facts that a projection file does not hold; those that are None are estimated.

    Attributes:
        rotation_center: 0-based detector column of the rotation axis.
        scale: Attenuation in 1/mm (or 1/pixel) that becomes 1.
        image_size: Pixels a side of the image; None takes the number of detector columns.
    """

    rotation_center: float | None = None
    scale: float | None = None
    image_size: int | None = None


def import_projections(
    path: str,
    output: str,
    choice: ProjectionChoice | None = None,
    settings: ImportSettings | None = None,
    *,
    overwrite: bool = False,
    report: Report = silent,
) -> Acquisition:
    """Convert a projection file to line integrals and write them as an acquisition, a shard at a time.

    Args:
        path: The projection file.
        output: Path of the new acquisition.
        choice: Which part of the file is used, and how it is read; None means all of it as it says.
        settings: Facts that the file does not hold; None means: estimate them.
        overwrite: Whether to replace an acquisition at ``output``.
        report: Is told how many slices are done.

    Raises:
        InputError: the file, a choice or the output is not valid; nothing is written then.
    """
    choice, settings = choice or ProjectionChoice(), settings or ImportSettings()
    data = open_projections(
        path,
        angles_deg=choice.angles_deg,
        is_transmission=choice.is_transmission,
        every_nth_view=choice.every_nth_view,
        rows=choice.rows,
        air_rows=choice.air_rows,
        repair=choice.repair,
        pixel_mm=choice.pixel_mm,
        key=choice.key,
    )
    metadata = projection_metadata(data, rotation_center=settings.rotation_center, scale=settings.scale)
    geometry = metadata.acquisition
    if settings.image_size is not None:
        if settings.image_size < 1:
            raise InputError(f"`image_size`: found {settings.image_size}, expected at least 1")
        size = (settings.image_size, settings.image_size)
        geometry = geometry.model_copy(update={"image_shape": size})
    noise = MeasuredNoise(std=_estimate_from_some_rows(data))
    metadata = metadata.model_copy(update={"acquisition": geometry, "noise": noise})
    num_slices = data.line_integrals.shape[0]
    with create_acquisition(
        output, metadata, num_slices, with_reference=False, overwrite=overwrite
    ) as writer:
        for start in range(0, num_slices, writer.shard_slices):
            stop = min(start + writer.shard_slices, num_slices)
            block = data.line_integrals[start:stop].compute(scheduler="threads")
            writer.write_measurements(start, block)
            report(stop, num_slices, "importing")
        return writer.commit()


def _estimate_from_some_rows(data: ProjectionData) -> float:
    num_slices = data.line_integrals.shape[0]
    rows = np.unique(np.linspace(0, num_slices - 1, min(num_slices, MAX_ROWS)).round().astype(int))
    return estimate_noise(data.line_integrals[rows].compute(scheduler="threads"))


def estimate_noise(sinograms: NDArray[np.float32]) -> float:
    """The standard deviation of white noise in sinograms (z, view, detector).

    A smooth object cancels in second differences along the detector, whose variance is 6 times that of the
    noise. The median of their magnitudes is robust against the object's edges. Noise that neighbouring pixels
    share is not seen.
    """
    if sinograms.shape[-1] < 3:
        return 0.0
    second = np.diff(sinograms, n=2, axis=-1)
    return float(np.median(np.abs(second)) / 0.6745 / np.sqrt(6))
