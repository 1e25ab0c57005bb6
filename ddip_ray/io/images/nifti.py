"""NIfTI images (.nii, .nii.gz): reading and writing."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.images.volume import (
    ImageVolume,
    canonical,
    lazy,
    obliqueness_note,
    require_real_volume,
)
from ddip_ray.io.lengths import mm_per
from ddip_ray.io.stores.schema import Orientation, Source

SUFFIXES = (".nii", ".nii.gz")
_LARGEST = 32767  # voxels along an axis of NIfTI-1


def read_nifti(path: Path, volume_index: int) -> ImageVolume:
    """One volume of a NIfTI file, turned so that (z, y, x) grow to Superior, Anterior and Right.

    A plain .nii stays on disk as a memory map; a compressed one is read whole, in its stored type.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image: Any = nibabel.load(path)  # version 1 or 2
        stored = image.dataobj.get_unscaled()
    except (ImageFileError, HeaderDataError, zlib.error, OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as NIfTI ({error})") from error
    history = []
    shape = stored.shape
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim == 4:
        if not 0 <= volume_index < shape[3]:
            raise InputError(f"{path}: no volume {volume_index}, it has {shape[3]} (0 to {shape[3] - 1})")
        stored = stored[..., volume_index]
        history.append(f"volume {volume_index} of {shape[3]}")
    require_real_volume(str(path), stored.shape, stored.dtype)
    try:
        unit = mm_per(image.header.get_xyzt_units()[0]) or 1.0  # "unknown" is mm in practice
        affine = np.diag([unit, unit, unit, 1.0]) @ image.affine
        array, voxel_mm, orientation = canonical(lazy_xyz(stored), affine)
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from error
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    if (slope, inter) != (1.0, 0.0):
        array = array.astype(np.float32) * np.float32(slope) + np.float32(inter)
    history.append(f"axes {''.join(nibabel.aff2axcodes(affine))} (x, y, z) turned to RAS")
    history += obliqueness_note(affine)
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        orientation = Orientation()  # what nibabel assumes then is a guess, left and right included
        history.append("the file does not say how it lies")
    source = Source(name=path.name, format="NIfTI", history=tuple(history))
    return ImageVolume(array, voxel_mm, orientation, source)


def lazy_xyz(stored: NDArray[Any]) -> Any:
    """A dask array (x, y, z) over a Fortran-ordered one, in blocks along its slowest axis z."""
    return lazy(stored.transpose(2, 1, 0)).transpose(2, 1, 0)


def write_nifti(
    path: Path,
    slabs: Iterable[NDArray[np.float32]],
    shape: tuple[int, int, int],
    voxel_mm: tuple[float, float, float],
    orientation: Orientation,
) -> None:
    """Write a volume as a float32 NIfTI-1 file, slab by slab, whole or not at all.

    Args:
        path: File name ending in .nii or .nii.gz.
        slabs: Slabs (z, y, x) of the volume in the order of their slices.
        shape: Shape (z, y, x) of the whole volume.
        voxel_mm: Voxel size (z, y, x) in mm.
        orientation: Directions of the axes. Without an affine the file records the voxel size but not where
            voxels lie (sform and qform code 0).

    Raises:
        InputError: more voxels along an axis than the format can count, or a full disk.
    """
    import nibabel
    from nibabel.openers import Opener

    if max(shape) > _LARGEST:
        raise InputError(f"{path}: {max(shape)} voxels along an axis, NIfTI-1 allows {_LARGEST}")
    header: Any = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape[::-1])
    header.set_zooms(voxel_mm[::-1])
    header.set_xyzt_units("mm")
    if orientation.affine is not None:
        # "aligned" and not "scanner": the affine does not say to what the image is aligned
        header.set_sform(np.array(orientation.affine), "aligned")
        header.set_qform(np.array(orientation.affine), "aligned")
    header["vox_offset"] = header.single_vox_offset
    ending = next(suffix for suffix in reversed(SUFFIXES) if path.name.endswith(suffix))
    temporary = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}{ending}")
    try:
        with paths.storage_errors(path), Opener(str(temporary), "wb") as file:
            header.write_to(file)
            file.write(bytes(header.single_vox_offset - file.tell()))
            for slab in slabs:
                file.write(slab.tobytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
