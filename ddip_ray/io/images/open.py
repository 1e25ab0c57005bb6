"""Open a 3D image of any accepted format, lazily, and scale it to what the prior knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.images.dicom import is_dicom, read_dicom_folder
from ddip_ray.io.images.nifti import read_nifti
from ddip_ray.io.images.numpy import ASSUMED_VOXEL, read_npy, read_npy_folder, read_npz
from ddip_ray.io.images.tiff import read_tiff, read_tiff_folder
from ddip_ray.io.images.volume import ImageVolume, natural_key
from ddip_ray.io.images.zarr import read_zarr
from ddip_ray.io.paths import StorePath
from ddip_ray.io.stores.schema import Intensity

ACCEPTED = (
    "Accepted: NIfTI (.nii, .nii.gz), .npy, .npz, TIFF, OME-Zarr, and folders of .npy slices, "
    "TIFF slices or one DICOM series"
)
HU_WINDOW = (-1000.0, 1000.0)
_ROBUST_PERCENTILES = (0.1, 99.9)
_MAX_SAMPLES = 2_000_000


def open_image(
    path: StorePath,
    *,
    volume_index: int = 0,
    key: str | None = None,
    voxel_mm: tuple[float, float, float] | None = None,
) -> ImageVolume:
    """Open the image at ``path`` without reading its voxels (compressed files are read whole).

    ``volume_index`` chooses among the volumes of a 4D image, ``key`` the array of an .npz, ``voxel_mm``
    (z, y, x) overrides the file. Raises InputError for what is missing, unknown, complex, or not 3D.
    """
    volume = _read(path, volume_index, key)
    if voxel_mm is not None:
        history = tuple(line for line in volume.source.history if line != ASSUMED_VOXEL)
        history = (*history, f"voxel {voxel_mm} mm given by hand")
        source = volume.source.model_copy(update={"history": history})
        volume = replace(volume, voxel_mm=voxel_mm, source=source)
    if min(volume.voxel_mm) <= 0:
        raise InputError(f"{path}: voxel size {volume.voxel_mm} mm (z, y, x)", "Give it by hand: voxel_mm")
    return volume


def _read(path: StorePath, volume_index: int, key: str | None) -> ImageVolume:
    if paths.is_remote(path):
        return read_zarr(paths.absolute(path), volume_index)
    local = paths.local_path(path)
    if not local.exists():
        raise InputError(f"{path}: no such file or folder", "Check the path")
    if local.is_dir():
        return _read_folder(local, volume_index)
    name = local.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return read_nifti(local, volume_index)
    if name.endswith(".npy"):
        return read_npy(local)
    if name.endswith(".npz"):
        return read_npz(local, key)
    if name.endswith((".tif", ".tiff")):
        return read_tiff(local)
    hint = "Give the folder of the DICOM series" if is_dicom(local) else ACCEPTED
    raise InputError(f"{path}: not an image format known here", hint)


def _read_folder(folder: Path, volume_index: int) -> ImageVolume:
    if any((folder / name).exists() for name in ("zarr.json", ".zattrs", ".zgroup", ".zarray")):
        return read_zarr(folder, volume_index)
    files = sorted((f for f in folder.iterdir() if f.is_file() and f.name[0] != "."), key=natural_key)
    kinds = {
        "npy": [f for f in files if f.suffix.lower() == ".npy"],
        "TIFF": [f for f in files if f.suffix.lower() in (".tif", ".tiff")],
    }
    rest = [f for f in files if f.suffix.lower() not in (".npy", ".tif", ".tiff")]
    kinds["DICOM"] = [f for f in rest if f.name != "DICOMDIR" and is_dicom(f)]
    found = {kind: members for kind, members in kinds.items() if members}
    if not found:
        raise InputError(f"{folder}: none of its {len(files)} files is an image known here", ACCEPTED)
    if len(found) > 1:
        raise InputError(f"{folder}: mixed {_listing(found.items())}", "One kind of slice in a folder")
    [(kind, members)] = found.items()
    readers = {"npy": read_npy_folder, "TIFF": read_tiff_folder, "DICOM": read_dicom_folder}
    return readers[kind](folder, members)


def _listing(found: Iterable[tuple[str, list[Path]]]) -> str:
    return " and ".join(f"{len(members)} {kind} files" for kind, members in found)


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
    """Scale an image to 0 to 1 by a window that clips, or by one chosen for it that does not.

    Returns the lazy float32 array (z, y, x) and the Intensity that leads back to original units.
    """
    chosen = window or (HU_WINDOW if volume.unit == "HU" else None)
    return normalise(volume, chosen, clip=window is not None)


def choose_window(volume: ImageVolume) -> tuple[float, float]:
    """The 0.1 and 99.9 percentiles of about two million voxels on a regular grid; InputError if constant."""
    stride = max(1, round((np.prod(volume.array.shape) / _MAX_SAMPLES) ** (1 / 3)))
    sample = np.asarray(volume.array[::stride, ::stride, ::stride].compute(scheduler="threads"))
    low, high = (float(v) for v in np.nanpercentile(sample.astype(np.float64), _ROBUST_PERCENTILES))
    if not low < high:
        raise InputError(f"{volume.source.name}: nearly every voxel is {low:g}", "Give an intensity window")
    return low, high


def normalise(
    volume: ImageVolume, window: tuple[float, float] | None = None, clip: bool = True
) -> tuple[Any, Intensity]:
    """Scale an image so that ``window`` (default: `choose_window`) becomes 0 to 1, clipped or not.

    Returns the lazy float32 array (z, y, x) and the Intensity that leads back to original units.
    """
    low, high = window or choose_window(volume)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(f"intensity window {low:g} to {high:g}, expected two finite numbers, lower first")
    scaled = (volume.array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    if clip:
        scaled = scaled.clip(0.0, 1.0).astype(np.float32)
    return scaled, Intensity(offset=low, scale=high - low, unit=volume.unit)
