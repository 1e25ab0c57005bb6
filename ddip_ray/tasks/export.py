"""Export of a result as a NIfTI file, for software that does not read Zarr."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.images.nifti import SUFFIXES, write_nifti
from ddip_ray.io.stores.result import Result, open_result
from ddip_ray.tasks.progress import Report, silent
from ddip_ray.tasks.slices import slabs


def export(
    result: str, output: Path, *, phase: bool = False, overwrite: bool = False, report: Report = silent
) -> None:
    """Write a result as NIfTI, in its own unit.

    Args:
        result: Path of the result.
        output: File name ending in .nii or .nii.gz.
        phase: Whether to write the phase of a complex image in radians, instead of its magnitude.
        overwrite: Whether to replace ``output``.
        report: Is told how many slices are written.

    Raises:
        InputError: no result, a phase of a real image, or an output that cannot be written.
    """
    source = open_result(result)
    if phase and not source.is_complex:
        raise InputError(f"{result}: the image is real and has no phase", "Leave out `phase`")
    if not output.name.endswith(SUFFIXES):
        raise InputError(f"{output}: expected a name ending in {' or '.join(SUFFIXES)}")
    if output.is_dir():
        raise InputError(f"{output}: is a folder", "Choose another name")
    if output.exists() and not overwrite:
        raise InputError(
            f"{output}: already exists", "Choose another name, or replace it with `overwrite=True`"
        )
    if not output.absolute().parent.is_dir():
        raise InputError(
            f"{output}: there is no folder {output.absolute().parent}", "Create it or correct the path"
        )
    paths.require_free_space(output, 4 * int(np.prod(source.shape)))
    values = _slabs(source, phase, report)
    write_nifti(output, values, source.shape, source.voxel_mm, source.metadata.orientation)


def _slabs(result: Result, phase: bool, report: Report) -> Iterator[NDArray[np.float32]]:
    """The slabs (z, y, x) of a result in the order of their slices."""
    num_slices, ny, nx = result.shape
    for start, stop in slabs(num_slices, result.shard_slices, 8 * ny * nx):
        slab = result.read(start, stop)
        if result.is_complex:
            slab = np.angle(slab) if phase else np.abs(slab)
        yield slab.astype(np.float32, copy=False)
        report(stop, num_slices, "exporting")
