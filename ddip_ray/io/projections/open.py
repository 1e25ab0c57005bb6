"""Open a projection file of any accepted format. A reader is a row in `FILES`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ddip_ray.errors import InputError
from ddip_ray.io.formats import Format, find_format, listed
from ddip_ray.io.hdf5 import HDF5_SUFFIXES
from ddip_ray.io.projections.data_exchange import read_data_exchange
from ddip_ray.io.projections.mrc import MRC_SUFFIXES, read_mrc
from ddip_ray.io.projections.numpy import read_npz
from ddip_ray.io.projections.raw import RawProjections

ReadFile = Callable[[Path, str | None], RawProjections]  # of path and key

FILES: tuple[Format[ReadFile], ...] = (
    Format("Data Exchange HDF5", HDF5_SUFFIXES, lambda path, key: read_data_exchange(path)),
    Format("NumPy archive", (".npz",), read_npz),
    Format("MRC", MRC_SUFFIXES, lambda path, key: read_mrc(path)),
)


def read_projections(path: Path, key: str | None) -> RawProjections:
    """Projections of the file at ``path``, recognised by its name; ``key`` chooses an array of an .npz.

    Raises:
        InputError: no such file, or an unknown or damaged format.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", "Check the path")
    row = find_format(path, FILES)
    if row is None:
        raise InputError(f"{path}: not a projection format known here", f"Accepted: {listed(FILES)}")
    return row.read(path, key)
