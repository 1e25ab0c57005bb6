"""`ImageVolume`, which every image reader returns, and the steps that readers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.stores.arrays import block_slices
from ddip_ray.io.stores.schema import Affine, Orientation, Source


@dataclass(frozen=True)
class ImageVolume:
    """A 3D image that has not been read yet.

    ``array`` is a lazy dask array (z, y, x) of real numbers in ``unit``; ``voxel_mm`` is (z, y, x).
    """

    array: Any
    voxel_mm: tuple[float, float, float]
    orientation: Orientation
    source: Source
    unit: str = ""

    @property
    def affine(self) -> Affine | None:
        """The map from voxel (x, y, z, 1) to world mm, or None when the file does not say."""
        return self.orientation.affine


def natural_key(path: Path) -> list[tuple[int, str]]:
    """The sort key by which slice_2 comes before slice_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def require_real_volume(where: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """InputError unless shape and dtype are those of a 3D image of real numbers."""
    if dtype.kind == "c":
        raise InputError(f"{where}: a complex image ({dtype})", "Give its magnitude")
    if dtype.kind not in "biuf":
        raise InputError(f"{where}: voxels of type {dtype}, expected real numbers")
    if len(shape) != 3:
        raise InputError(f"{where}: {len(shape)} axes of shape {tuple(shape)}, expected 3 (z, y, x)")
    if 0 in shape:
        raise InputError(f"{where}: the image is empty, shape {tuple(shape)}")


def lazy(array: Any) -> Any:
    """A dask array over an array-like (z, y, x), in blocks of the slices that a store's shard will hold.

    Dask computes a whole block even for one slice of it, so larger blocks would be computed once for each
    shard that they reach into.
    """
    import dask.array as da

    slice_bytes = max(1, int(np.prod(array.shape[1:])) * array.dtype.itemsize)
    slices = block_slices(array.shape[0], slice_bytes)
    # name=False: hashing the voxels for a name would read the whole file
    return da.from_array(array, chunks=(slices, *array.shape[1:]), name=False)


def lazy_stack(
    load: Callable[[Any], NDArray[Any]], items: Sequence[Any], shape: tuple[int, int], dtype: np.dtype[Any]
) -> Any:
    """A dask array (z, y, x) that loads a slice when it is needed.

    Args:
        load: Returns the slice (y, x) of an item.
        items: One item a slice, in the order of z.
        shape: Shape (y, x) of every slice.
        dtype: Type of the numbers of every slice.
    """
    import dask
    import dask.array as da

    task = dask.delayed(load, pure=False)
    return da.stack([da.from_delayed(task(item), shape=shape, dtype=dtype) for item in items])


def same_shape(files: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """The 2D shape that all slices of a stack have; InputError names the first file that differs."""
    first = shapes[0]
    for file, shape in zip(files, shapes, strict=True):
        if len(shape) != 2:
            raise InputError(f"{file}: shape {shape}, expected one slice (y, x)")
        if shape != first:
            raise InputError(
                f"{file.parent}: slices differ in shape: {files[0].name} {first}, {file.name} {shape}"
            )
    return first[0], first[1]


def canonical(array: Any, affine: NDArray[Any]) -> tuple[Any, tuple[float, float, float], Orientation]:
    """Turn an array (x, y, z) with a RAS+ affine so that z grows to Superior, y to Anterior, x to Right.

    Axes are swapped and flipped, never resampled.

    Returns:
        The array as (z, y, x), its voxel size in mm (z, y, x), and the orientation with the affine of the
        turned array.
    """
    from nibabel import orientations

    turn = orientations.io_orientation(affine)
    if np.isnan(turn).any():
        raise InputError("the affine is singular, so the directions of the axes are unknown")
    turned_affine = affine @ orientations.inv_ornt_aff(turn, array.shape)
    for axis, flip in enumerate(turn[:, 1]):
        if flip < 0:
            array = array[tuple(slice(None, None, -1) if i == axis else slice(None) for i in range(3))]
    x, y, z = (int(np.flatnonzero(turn[:, 0] == axis)[0]) for axis in range(3))
    spacing = np.linalg.norm(turned_affine[:3, :3], axis=0)
    rows: Any = tuple(tuple(float(value) for value in row) for row in turned_affine)
    voxel_mm = (float(spacing[2]), float(spacing[1]), float(spacing[0]))
    return array.transpose(z, y, x), voxel_mm, Orientation(directions="SAR", affine=rows)


def obliqueness_note(affine: NDArray[Any]) -> list[str]:
    """A line of history if the voxel axes are tilted against the body's axes by more than 1 degree."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    tilt = float(np.degrees(np.arccos(np.clip(np.abs(axes).max(axis=0).min(), 0, 1))))
    return [f"voxel axes are tilted by {tilt:.1f} degrees and were kept"] if tilt > 1 else []
