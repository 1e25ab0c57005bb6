"""TIFF images: one file with many pages, or a folder with one file a slice."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.images.numpy import ASSUMED_VOXEL
from ddip_ray.io.images.volume import (
    ImageVolume,
    lazy,
    lazy_stack,
    require_real_volume,
    same_shape,
)
from ddip_ray.io.lengths import mm_per
from ddip_ray.io.stores.schema import Orientation, Source

Voxel = tuple[float, float, float]


def read_tiff(path: Path) -> ImageVolume:
    """A 3D TIFF (z, y, x), as a memory map if it is stored in one piece, else read page by page."""
    import tifffile

    with _open(path) as tif:
        series = tif.series[0]  # tifffile has dropped axes of length 1
        if "S" in series.axes:
            raise InputError(f"{path}: a colour image ({series.axes}), expected one value a voxel")
        require_real_volume(str(path), series.shape, series.dtype)
        voxel_mm = _spacing(tif)
        offset, order = series.dataoffset, tif.byteorder
        shape, dtype, num_pages = series.shape, series.dtype, len(series.pages)
    if offset is not None:
        array = lazy(np.memmap(path, dtype.newbyteorder(order), "r", offset, shape))
    elif num_pages == shape[0]:
        array = lazy_stack(partial(_load_page, path), range(num_pages), shape[1:], dtype)
    else:
        array = lazy(tifffile.imread(path).reshape(shape))
    return _volume(array, voxel_mm, Source(name=path.name, format="TIFF"))


def read_tiff_folder(folder: Path, files: list[Path]) -> ImageVolume:
    """A volume from a folder of 2D TIFF files, one a slice, in natural order of their names."""
    shapes, dtypes = [], set()
    voxel_mm = None
    for file in files:
        with _open(file) as tif:
            series = tif.series[0]
            shapes.append(tuple(series.shape))
            dtypes.add(series.dtype)
            voxel_mm = voxel_mm or _spacing(tif)
    shape = same_shape(files, shapes)
    dtype = np.result_type(*dtypes)
    require_real_volume(str(folder), (len(files), *shape), dtype)
    history = (f"{len(files)} files, {files[0].name} to {files[-1].name}",)
    source = Source(name=folder.name, format="folder of TIFF", history=history)
    return _volume(lazy_stack(_load_file, files, shape, dtype), voxel_mm, source)


def _volume(array: Any, voxel_mm: Voxel | None, source: Source) -> ImageVolume:
    if voxel_mm is None:
        return ImageVolume(array, (1.0, 1.0, 1.0), Orientation(), source.noting(ASSUMED_VOXEL))
    return ImageVolume(array, voxel_mm, Orientation(), source)


def _open(path: Path) -> Any:
    import tifffile

    try:
        return tifffile.TiffFile(path)
    except (tifffile.TiffFileError, OSError) as error:
        raise InputError(f"{path}: cannot be read as TIFF ({error})") from error


def _load_page(path: Path, page: int) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        data: NDArray[Any] = tif.series[0].pages[page].asarray()
        return data


def _load_file(path: Path) -> NDArray[Any]:
    import tifffile

    data: NDArray[Any] = tifffile.imread(path)
    return data


def _spacing(tif: Any) -> Voxel | None:
    """The voxel (z, y, x) in mm from OME or ImageJ metadata; plain resolution tags are about printing."""
    if tif.is_ome:
        return _ome_spacing(tif.ome_metadata)
    if not tif.is_imagej:
        return None
    metadata, tags = tif.imagej_metadata, tif.pages[0].tags
    unit = mm_per(str(metadata.get("unit", "")))
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    x, y = (tags[name].value[1] / tags[name].value[0] * unit for name in ("XResolution", "YResolution"))
    return float(metadata.get("spacing", 1.0)) * unit, y, x


def _ome_spacing(document: str) -> Voxel | None:
    pixels = ET.fromstring(document).find(".//{*}Pixels")
    if pixels is None:
        return None
    sizes = []
    for axis in "ZYX":
        unit = mm_per(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if unit is None or pixels.get(f"PhysicalSize{axis}") is None:
            return None
        sizes.append(float(pixels.get(f"PhysicalSize{axis}", "1")) * unit)
    return sizes[0], sizes[1], sizes[2]
