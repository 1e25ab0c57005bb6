"""Projections in MRC files, plain or compressed."""

from __future__ import annotations

from pathlib import Path

from ddip_ray.errors import InputError
from ddip_ray.io.projections.raw import RawProjections, lazy_rows

_PLAIN = (".mrc", ".mrcs", ".rec", ".ali", ".st")
MRC_SUFFIXES = (*_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))


def read_mrc(path: Path) -> RawProjections:
    """A stack of projections with its pixel size; a plain file stays on disk as a memory map."""
    import mrcfile

    try:
        # Not permissive: a damaged header would give plausible nonsense.
        file = mrcfile.mmap(path, "r") if path.suffix != ".gz" else mrcfile.open(path, "r")
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as MRC ({error})") from error
    with file:
        angstrom = float(file.voxel_size.x)
        data = file.data
    pixel_mm = angstrom * 1e-7 if angstrom > 0 else None
    return RawProjections(lazy_rows(str(path), data), "MRC", pixel_mm=pixel_mm)
