"""Open a 3D image of any accepted format, lazily, and scale it to the range 0 to 1 that the prior knows.

A reader is a row in `FILES` (one file is one image) or in `FOLDERS` (a folder of slices is one image).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.formats import Format, find_format, listed
from ddip_ray.io.images.dicom import is_dicom, is_dicom_slice, read_dicom_folder
from ddip_ray.io.images.nifti import read_nifti
from ddip_ray.io.images.numpy import ASSUMED_VOXEL, read_npy, read_npy_folder, read_npz
from ddip_ray.io.images.tiff import read_tiff, read_tiff_folder
from ddip_ray.io.images.volume import ImageVolume, natural_key
from ddip_ray.io.images.zarr import read_zarr
from ddip_ray.io.paths import StorePath
from ddip_ray.io.stores.schema import Intensity

HU_WINDOW = (-1000.0, 1000.0)
_ROBUST_PERCENTILES = (0.1, 99.9)
_MAX_SAMPLES = 2_000_000
_ZARR_MARKS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


@dataclass(frozen=True)
class Selection:
    """Which image of a file is meant: the number of a volume (4D images), the name of an array (.npz)."""

    volume_index: int = 0
    key: str | None = None


ReadFile = Callable[[Path, Selection], ImageVolume]
ReadFolder = Callable[[Path, list[Path]], ImageVolume]

FILES: tuple[Format[ReadFile], ...] = (
    Format("NIfTI", (".nii", ".nii.gz"), lambda path, which: read_nifti(path, which.volume_index)),
    Format("NumPy", (".npy",), lambda path, which: read_npy(path)),
    Format("NumPy archive", (".npz",), lambda path, which: read_npz(path, which.key)),
    Format("TIFF", (".tif", ".tiff"), lambda path, which: read_tiff(path)),
)
FOLDERS: tuple[Format[ReadFolder], ...] = (  # of slices; a row says what a single slice looks like
    Format("npy", (".npy",), read_npy_folder),
    Format("TIFF", (".tif", ".tiff"), read_tiff_folder),
    Format("DICOM", (), read_dicom_folder, recognises=is_dicom_slice),
)


def open_image(
    path: StorePath,
    *,
    volume_index: int = 0,
    key: str | None = None,
    voxel_mm: tuple[float, float, float] | None = None,
) -> ImageVolume:
    """Open the image at ``path`` without reading its voxels (compressed files are read whole).

    Args:
        path: File or folder of any accepted format, or a local or remote Zarr group.
        volume_index: Which volume of an image with four or more axes.
        key: Which array of an .npz file; None takes ``volume``, or else the only 3D one.
        voxel_mm: Voxel size (z, y, x) in mm, instead of the file's; None takes the file's.

    Raises:
        InputError: nothing at ``path``, an unknown or damaged format, or an image that is complex or not 3D.
    """
    volume = _read(path, Selection(volume_index, key))
    if voxel_mm is not None:
        history = tuple(line for line in volume.source.history if line != ASSUMED_VOXEL)
        history = (*history, f"voxel {voxel_mm} mm given by hand")
        source = volume.source.model_copy(update={"history": history})
        volume = replace(volume, voxel_mm=voxel_mm, source=source)
    if min(volume.voxel_mm) <= 0:
        raise InputError(f"{path}: voxel size {volume.voxel_mm} mm (z, y, x)", "Give it by hand: `voxel_mm`")
    return volume


def _read(path: StorePath, which: Selection) -> ImageVolume:
    if paths.is_remote(path):
        return read_zarr(paths.absolute(path), which.volume_index)
    local = paths.local_path(path)
    if not local.exists():
        raise InputError(f"{path}: no such file or folder", "Check the path")
    if local.is_dir():
        is_zarr = any((local / name).exists() for name in _ZARR_MARKS)
        return read_zarr(local, which.volume_index) if is_zarr else _read_folder(local)
    row = find_format(local, FILES)
    if row is None:
        hint = "Give the folder of the DICOM series" if is_dicom(local) else _accepted()
        raise InputError(f"{path}: not an image format known here", hint)
    return row.read(local, which)


def _read_folder(folder: Path) -> ImageVolume:
    files = sorted((f for f in folder.iterdir() if f.is_file() and f.name[0] != "."), key=natural_key)
    rows = [find_format(file, FOLDERS) for file in files]
    found = [
        (row, [file for file, own in zip(files, rows, strict=True) if own is row])
        for row in FOLDERS
        if row in rows
    ]
    if not found:
        raise InputError(f"{folder}: none of its {len(files)} files is an image known here", _accepted())
    if len(found) > 1:
        raise InputError(f"{folder}: mixed {_counted(found)}", "One kind of slice in a folder")
    [(row, members)] = found
    return row.read(folder, members)


def _accepted() -> str:
    slices = ", ".join(row.name for row in FOLDERS)
    return f"Accepted: {listed(FILES)}, OME-Zarr, and folders of single slices ({slices})"


def _counted(found: Sequence[tuple[Format[ReadFolder], list[Path]]]) -> str:
    return " and ".join(f"{len(members)} {row.name} files" for row, members in found)


def load_image(
    path: StorePath,
    window: tuple[float, float] | None = None,
    *,
    volume_index: int = 0,
    key: str | None = None,
) -> NDArray[np.float32]:
    """The image at ``path`` as an array (z, y, x), scaled so that an intensity window becomes 0 to 1.

    The array is the reference that `simulate` would store.

    Args:
        path: NIfTI, NumPy, TIFF, DICOM folder or OME-Zarr, local or remote.
        window: (low, high) in the image's own unit; values beyond are clipped. None clips nothing and takes
            -1000 to 1000 of an image in Hounsfield units, otherwise the 0.1 and 99.9 percentiles: some voxels
            then lie below 0 or above 1.
        volume_index: Which volume of a file with four or more axes.
        key: Which array of an .npz file; None takes the only 3D one.

    Raises:
        InputError: nothing readable at ``path``, or a window without width.
    """
    scaled, _ = apply_window(open_image(path, volume_index=volume_index, key=key), window)
    return np.ascontiguousarray(scaled.compute(scheduler="threads"))


def apply_window(volume: ImageVolume, window: tuple[float, float] | None) -> tuple[Any, Intensity]:
    """Scale an image to 0 to 1 by a given window, which clips, or by a chosen one, which does not.

    Returns:
        The lazy float32 array (z, y, x), and the Intensity that leads back to original units.
    """
    chosen = window or (HU_WINDOW if volume.unit == "HU" else None)
    return normalise(volume, chosen, clip=window is not None)


def choose_window(volume: ImageVolume) -> tuple[float, float]:
    """The 0.1 and 99.9 percentiles of about two million voxels on a regular grid.

    Raises:
        InputError: nearly all voxels have the same value.
    """
    stride = max(1, round((np.prod(volume.array.shape) / _MAX_SAMPLES) ** (1 / 3)))
    sample = np.asarray(volume.array[::stride, ::stride, ::stride].compute(scheduler="threads"))
    low, high = (float(v) for v in np.nanpercentile(sample.astype(np.float64), _ROBUST_PERCENTILES))
    if not low < high:
        raise InputError(f"{volume.source.name}: nearly every voxel is {low:g}", "Give an intensity window")
    return low, high


def normalise(
    volume: ImageVolume, window: tuple[float, float] | None = None, clip: bool = True
) -> tuple[Any, Intensity]:
    """Scale an image so that ``window`` (by default that of `choose_window`) becomes 0 to 1, clipped or not.

    Returns:
        The lazy float32 array (z, y, x), and the Intensity that leads back to original units.
    """
    low, high = window or choose_window(volume)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(
            f"`window`: found {low:g} to {high:g}, expected two finite numbers, the lower one first"
        )
    scaled = (volume.array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    if clip:
        scaled = scaled.clip(0.0, 1.0).astype(np.float32)
    return scaled, Intensity(offset=low, scale=high - low, unit=volume.unit)
