"""A picture of a result: reference, direct reconstruction, result and error, in three planes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.result import Result, open_result
from ddip_ray.io.stores.schema import AcquisitionKind, Intensity, Orientation, ParallelCT
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.tasks.judge.scores import decibels, inscribed_circle, mean_squared_error
from ddip_ray.tasks.judge.volumes import (
    Volume,
    find_acquisition,
    magnitude,
    read_own_reference,
    read_reference,
    read_result,
)
from ddip_ray.tasks.slices import slabs

DIRECT = {
    "parallel_ct": "FBP",
    "cartesian_mri": "ZERO-FILLED",
    "noncartesian_mri": "GRIDDED",
}  # what is shown for comparison
MIN_SLICES_FOR_PLANES = 8  # a thinner volume is shown from above only
COLUMN_INCHES = 2.4
ERROR_CEILINGS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
PLANE_LABELS = ("axial", "cor", "sag")  # short: a row may be thin


@dataclass(frozen=True)
class Column:
    """A column of the picture: a volume's central slices, one 2D image a plane, and its PSNR if known."""

    title: str
    images: tuple[NDArray[np.float32], ...]
    psnr: float | None = None


def montage(
    result: str,
    reference: str | None = None,
    compare: Sequence[str] = (),
    circle: bool = False,
) -> bytes:
    """A PNG of a result's central axial, coronal and sagittal slices beside what it is compared with.

    Columns are the reference if there is one, a direct reconstruction (FBP or zero filling) of the same
    measurements, the result, and its error. PSNR is computed over the whole volumes on data range 1. Complex
    images are shown by their magnitude.

    Args:
        result: Path of the result.
        reference: Path of another result, or of an acquisition with a reference; None takes the reference in
            the acquisition that the result was made from.
        compare: Paths of results that are shown instead of the direct reconstruction.
        circle: Whether PSNR counts only the inscribed circle of each slice.

    Raises:
        InputError: no such store, or volumes of different shape.
    """
    store = open_result(result)
    intensity = store.intensity
    acquisition = find_acquisition(store)
    truth = _reference(store, intensity, acquisition, reference)
    mask = inscribed_circle(store.shape[1:]) if circle else None

    def column(title: str, volume: Volume) -> Column:
        if volume.shape != store.shape:
            raise InputError(f"{title}: shape {volume.shape} (z, y, x), the result has {store.shape}")
        score = None if truth is None else _volume_psnr(volume, truth, mask)
        return Column(title, central_slices(volume), score)

    columns = [] if truth is None else [Column("reference", central_slices(truth))]
    for path in compare:
        other = open_result(path)
        columns.append(column(_method(other), read_result(other, intensity)))
    if not compare and acquisition is not None and _method(store) not in DIRECT.values():
        columns.append(column(DIRECT[acquisition.metadata.acquisition.kind], direct(acquisition)))
    columns.append(column(_method(store), read_result(store, intensity)))
    error = None
    if truth is not None:
        pairs = zip(columns[-1].images, columns[0].images, strict=True)
        error = Column("|error|", tuple(np.abs(a - b) for a, b in pairs))
    caption = _caption(store, intensity, acquisition)
    return draw(columns, error, store.voxel_mm, store.metadata.orientation, caption)


def _reference(
    result: Result, intensity: Intensity, acquisition: Acquisition | None, path: str | None
) -> Volume | None:
    if path is not None:
        reference = read_reference(path, intensity, result.metadata.unit)
        if reference.shape != result.shape:
            raise InputError(f"{path}: shape {reference.shape} (z, y, x), the result has {result.shape}")
        return reference
    if acquisition is not None and acquisition.has_reference:
        return read_own_reference(acquisition)
    return None


def _volume_psnr(volume: Volume, reference: Volume, mask: NDArray[np.bool_] | None) -> float | None:
    mse = mean_squared_error(volume, reference, None if mask is None else np.broadcast_to(mask, volume.shape))
    return None if mse is None else decibels(mse, 1.0)


def _method(result: Result) -> str:
    return str(result.provenance.get("method", "result")).upper()


def direct(acquisition: Acquisition) -> Volume:
    """The direct reconstruction of all slices, normalised: FBP with the plain ramp, or zero filling."""
    geometry = acquisition.metadata.acquisition
    volume = np.empty((acquisition.num_slices, *geometry.image_shape), dtype=np.float32)
    slice_bytes = 4 * math.prod(geometry.measurement_shape)
    for start, stop in slabs(acquisition.num_slices, acquisition.shard_slices, slice_bytes):
        problem = load_problem(acquisition, Slab(start, stop))
        volume[start:stop] = magnitude(problem.operator.direct_inverse(problem.y).numpy())
    return volume


def central_slices(volume: Volume) -> tuple[NDArray[np.float32], ...]:
    """The middle slice of each plane that is worth showing: axial (y, x), coronal (z, x), sagittal (z, y)."""
    z, y, x = (size // 2 for size in volume.shape)
    axial, coronal, sagittal = volume[z], volume[:, y], volume[:, :, x]
    if volume.shape[0] < MIN_SLICES_FOR_PLANES:
        return (axial,)
    return axial, coronal, sagittal


def draw(
    columns: Sequence[Column],
    error: Column | None,
    voxel_mm: tuple[float, float, float],
    orientation: Orientation,
    caption: str,
) -> bytes:
    """A PNG with a row for each plane, on the grey window 0 to 1 and true to scale.

    Args:
        columns: The volumes from left to right.
        error: The error, drawn last on a scale of its own; None leaves it out.
        voxel_mm: Voxel size (z, y, x) in mm.
        orientation: Directions of the axes, which decide what is up.
        caption: A line below the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = [*columns] if error is None else [*columns, error]
    pixel_mm = _pixel_mm(voxel_mm)[: len(columns[0].images)]
    sizes = [
        (image.shape[0] * size[0], image.shape[1] * size[1])
        for image, size in zip(columns[0].images, pixel_mm, strict=True)
    ]
    widest = max(width for _, width in sizes)
    heights = [COLUMN_INCHES * height / widest for height, _ in sizes]
    gap, head, foot, side = 0.06, 0.30, 0.26, 0.22
    figure_height = head + foot + sum(heights) + gap * (len(heights) - 1)
    figure_width = side + len(columns) * (COLUMN_INCHES + gap)
    figure = Figure(figsize=(figure_width, figure_height), dpi=160, facecolor="black")
    ceiling = 1.0 if error is None else _error_ceiling(error)
    for j, column in enumerate(columns):
        is_error = column is error
        bottom = figure_height - head
        for i, (image, (height_mm, width_mm)) in enumerate(zip(column.images, sizes, strict=True)):
            bottom -= heights[i]
            box = (
                (side + j * (COLUMN_INCHES + gap)) / figure_width,
                bottom / figure_height,
                COLUMN_INCHES / figure_width,
                heights[i] / figure_height,
            )
            axes: Any = figure.add_axes(box, facecolor="black")
            axes.imshow(
                image,
                cmap="inferno" if is_error else "gray",
                vmin=0,
                vmax=ceiling if is_error else 1,
                origin="lower" if _points_up(orientation, i) else "upper",
                extent=(0, width_mm, 0, height_mm),
                aspect="equal",
                interpolation="nearest",
            )
            axes.set_axis_off()
            if j == 0:
                middle = (bottom + heights[i] / 2) / figure_height
                figure.text(0.5 * side / figure_width, middle, PLANE_LABELS[i], rotation=90, **_text(7.5))
            bottom -= gap
        center = (side + j * (COLUMN_INCHES + gap) + COLUMN_INCHES / 2) / figure_width
        title = _title(column) + (f"  0 to {ceiling:g}" if is_error else "")
        figure.text(center, 1 - 0.5 * head / figure_height, title, **_text(9.5))
    figure.text(0.5, 0.5 * foot / figure_height, caption, **_text(7.0))
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _text(size: float) -> dict[str, Any]:
    return {"color": "white", "ha": "center", "va": "center", "fontsize": size}


def _title(column: Column) -> str:
    return column.title if column.psnr is None else f"{column.title}  {column.psnr:.2f} dB"


def _pixel_mm(voxel_mm: tuple[float, float, float]) -> tuple[tuple[float, float], ...]:
    z, y, x = voxel_mm
    return (y, x), (z, x), (z, y)


def _points_up(orientation: Orientation, plane: int) -> bool:
    """Whether the first axis of a plane's image grows upwards: y to Anterior, or z to Superior."""
    directions = orientation.directions or "IPR"
    return directions[1] == "A" if plane == 0 else directions[0] == "S"


def _error_ceiling(error: Column) -> float:
    largest = max(float(np.percentile(image, 99.5)) for image in error.images)
    return next((ceiling for ceiling in ERROR_CEILINGS if ceiling >= largest), 1.0)


def _caption(result: Result, intensity: Intensity, acquisition: Acquisition | None) -> str:
    low, high = intensity.offset, intensity.offset + intensity.scale
    parts = [result.path.rsplit("/", 1)[-1]]
    if acquisition is not None:
        parts.append(_measured(acquisition.metadata.acquisition))
        parts.append(f"noise: {acquisition.metadata.noise.kind}")
    parts.append(f"grey {low:.4g} to {high:.4g} {result.metadata.unit}".rstrip())
    return "   ".join(parts)


def _measured(geometry: AcquisitionKind) -> str:
    if not isinstance(geometry, ParallelCT):
        sampling = geometry.sampling
        factor = "" if sampling.acceleration is None else f" x {sampling.acceleration:g}"
        return f"{geometry.num_coils} coils, {sampling.pattern}{factor}"
    angles = geometry.angles_deg
    return f"{len(angles)} views, {min(angles):.0f} to {max(angles):.0f}°"
