"""A folder that holds one DICOM series of single-slice files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.images.volume import (
    ImageVolume,
    canonical,
    lazy_stack,
    obliqueness_note,
    require_real_volume,
    same_shape,
)
from ddip_ray.io.stores.schema import Source

_NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")


def is_dicom(path: Path) -> bool:
    """Whether a file carries DICOM's magic number."""
    with path.open("rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"


def is_dicom_slice(path: Path) -> bool:
    """Whether a file of a folder is DICOM and not the folder's index."""
    return path.name != "DICOMDIR" and is_dicom(path)


def read_dicom_folder(folder: Path, files: list[Path]) -> ImageVolume:
    """One DICOM series, its slices ordered by position, values rescaled, turned like a NIfTI image.

    Raises:
        InputError: several series, a changing orientation or pixel size, or gaps (nothing is interpolated).
    """
    import pydicom

    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    _require_one_series(folder, headers)
    for file, header in zip(files, headers, strict=True):
        if missing := [name for name in _NEEDED if name not in header]:
            hint = "Only files of one slice each are read"
            raise InputError(f"{file}: DICOM without {', '.join(missing)}", hint)
    first = headers[0]
    _require_constant(folder, files, headers)
    across, down = np.reshape([float(v) for v in first.ImageOrientationPatient], (2, 3))
    normal = np.cross(across, down)
    positions = np.array([[float(v) for v in header.ImagePositionPatient] for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    files, positions = [files[i] for i in order], positions[order]
    step = _slice_step(folder, files, positions @ normal)
    row_mm, column_mm = (float(v) for v in first.PixelSpacing)
    # DICOM's world is LPS: x and y change sign to become RAS.
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across * column_mm, down * row_mm, normal * step], axis=1)
    affine[:3, 3] = positions[0]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    shape = same_shape(files, [(int(headers[i].Rows), int(headers[i].Columns)) for i in order])
    require_real_volume(str(folder), (len(files), *shape), np.dtype(np.float32))
    stack = lazy_stack(_load, files, shape, np.dtype(np.float32))
    if int(np.argmax(np.abs(normal))) != 2:
        # The result's slices will cut across the files: read each file once, not once for every slab.
        stack = stack.persist(scheduler="threads")
    array, voxel_mm, orientation = canonical(stack.transpose(2, 1, 0), affine)
    history = [f"{len(files)} files, {getattr(first, 'Modality', '?')}", *obliqueness_note(affine)]
    source = Source(name=folder.name, format="DICOM", history=tuple(history))
    unit = "HU" if getattr(first, "Modality", "") == "CT" else ""
    return ImageVolume(array, voxel_mm, orientation, source, unit)


def _require_one_series(folder: Path, headers: list[Any]) -> None:
    series = Counter(
        (str(getattr(h, "SeriesInstanceUID", "")), str(getattr(h, "SeriesDescription", ""))) for h in headers
    )
    if len(series) > 1:
        lines = [f"\n  - {count} files, {name or 'no description'}" for (_, name), count in series.items()]
        message = f"{folder}: {len(series)} DICOM series, expected one:{''.join(lines)}"
        raise InputError(message, "Give each series its folder")


def _require_constant(folder: Path, files: list[Path], headers: list[Any]) -> None:
    for name in ("ImageOrientationPatient", "PixelSpacing"):
        expected = np.array([float(v) for v in headers[0][name].value])
        for file, header in zip(files, headers, strict=True):
            found = np.array([float(v) for v in header[name].value])
            if not np.allclose(found, expected, atol=1e-4):
                raise InputError(
                    f"{folder}: {name} differs: {files[0].name} {expected.tolist()}, "
                    f"{file.name} {found.tolist()}"
                )


def _slice_step(folder: Path, files: list[Path], heights: NDArray[Any]) -> float:
    if len(files) < 2:
        raise InputError(f"{folder}: one DICOM slice, expected a series of several")
    steps = np.diff(heights)
    step = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - step)))
    if step <= 0 or abs(steps[worst] - step) > max(0.01 * step, 0.01):
        raise InputError(
            f"{folder}: slices are not evenly spaced: {steps[worst]:.3f} mm between {files[worst].name} and "
            f"{files[worst + 1].name}, {step:.3f} mm elsewhere",
            "A slice is missing or there twice",
        )
    return float(np.mean(steps))


def _load(path: Path) -> NDArray[np.float32]:
    import pydicom

    data = pydicom.dcmread(path)
    try:
        pixels = data.pixel_array
    except (RuntimeError, NotImplementedError, ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: its pixels cannot be decoded ({error})", "Convert it to NIfTI") from error
    slope, inter = float(getattr(data, "RescaleSlope", 1)), float(getattr(data, "RescaleIntercept", 0))
    rescaled: NDArray[np.float32] = pixels.astype(np.float32) * np.float32(slope) + np.float32(inter)
    return rescaled
