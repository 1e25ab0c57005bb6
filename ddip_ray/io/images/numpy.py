"""NumPy images: .npy, .npz, and a folder with one .npy a slice (as the published research code writes)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.images.volume import ImageVolume, lazy, lazy_stack, require_real_volume, same_shape
from ddip_ray.io.npz import npz_array, open_npz
from ddip_ray.io.stores.schema import Orientation, Source

ASSUMED_VOXEL = "voxel size not in the file, 1 mm assumed"


def read_npy(path: Path) -> ImageVolume:
    """A 3D .npy (z, y, x), which stays on disk as a memory map."""
    array = _load(path)
    require_real_volume(str(path), array.shape, array.dtype)
    source = Source(name=path.name, format="npy", history=(ASSUMED_VOXEL,))
    return ImageVolume(lazy(array), (1.0, 1.0, 1.0), Orientation(), source)


def read_npz(path: Path, key: str | None) -> ImageVolume:
    """The array ``key`` of an .npz, by default ``volume`` or else the only 3D one.

    ``voxel_mm_zyx`` beside it is the voxel size, and ``attrs`` JSON whose ``units`` name the image's unit.
    """
    with open_npz(path) as archive:
        shapes = {name: npz_array(path, archive, name).shape for name in archive.files}
        key = key or _the_volume(path, shapes)
        if key not in shapes:
            raise InputError(f"{path}: no array {key!r}, it has {', '.join(shapes)}")
        array = archive[key]
        voxel = archive["voxel_mm_zyx"] if "voxel_mm_zyx" in shapes else None
        attributes = _json_attributes(archive)
    require_real_volume(f"{path}: {key}", array.shape, array.dtype)
    if voxel is not None and voxel.shape != (3,):
        raise InputError(f"{path}: voxel_mm_zyx has shape {voxel.shape}, expected (3,)")
    z, y, x = (1.0, 1.0, 1.0) if voxel is None else (float(size) for size in voxel)
    history = (f"array {key}",) if voxel is not None else (f"array {key}", ASSUMED_VOXEL)
    source = Source(name=path.name, format="npz", history=history)
    return ImageVolume(lazy(array), (z, y, x), Orientation(), source, str(attributes.get("units", "")))


def read_npy_folder(folder: Path, files: list[Path]) -> ImageVolume:
    """A volume from a folder of 2D .npy files, one a slice, in natural order of their names."""
    headers = [_load(file) for file in files]
    shape = same_shape(files, [header.shape for header in headers])
    dtype = np.result_type(*{header.dtype for header in headers})
    require_real_volume(str(folder), (len(files), *shape), dtype)
    array = lazy_stack(_load_slice, files, shape, dtype)
    history = (f"{len(files)} files, {files[0].name} to {files[-1].name}", ASSUMED_VOXEL)
    source = Source(name=folder.name, format="folder of npy", history=history)
    return ImageVolume(array, (1.0, 1.0, 1.0), Orientation(), source)


def _load(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as npy ({error})") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: an archive named .npy", "Rename it to .npz")
    return array


def _load_slice(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _the_volume(path: Path, shapes: dict[str, tuple[int, ...]]) -> str:
    candidates = [name for name, shape in shapes.items() if len(shape) == 3]
    if "volume" in candidates:
        return "volume"
    if len(candidates) != 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(
            f"{path}: {len(candidates)} 3D arrays among {found or 'none'}, expected one, or one named volume",
            "Name the array: `key`",
        )
    return candidates[0]


def _json_attributes(archive: Any) -> dict[str, Any]:
    if "attrs" not in archive.files:
        return {}
    try:
        attributes = json.loads(str(archive["attrs"]))
    except ValueError:
        return {}
    return attributes if isinstance(attributes, dict) else {}
