"""Open k-space of any accepted format: slices first, then coils. A reader is a row in `FILES`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ddip_ray.errors import InputError
from ddip_ray.io.formats import Format, find_format, listed
from ddip_ray.io.hdf5 import HDF5_SUFFIXES
from ddip_ray.io.kspace.fastmri import is_fastmri, read_fastmri
from ddip_ray.io.kspace.hdf5 import read_hdf5
from ddip_ray.io.kspace.ismrmrd import is_ismrmrd, read_ismrmrd
from ddip_ray.io.kspace.matlab import read_matlab
from ddip_ray.io.kspace.numpy import read_npy, read_npz
from ddip_ray.io.kspace.raw import RawKSpace
from ddip_ray.io.kspace.twix import read_twix

ReadFile = Callable[[Path, str | None, str | None], RawKSpace]  # of path, key and axes

FILES: tuple[Format[ReadFile], ...] = (
    Format("Siemens twix", (".dat",), read_twix),
    Format("ISMRMRD", HDF5_SUFFIXES, read_ismrmrd, recognises=is_ismrmrd),
    Format("fastMRI", HDF5_SUFFIXES, read_fastmri, recognises=is_fastmri),
    Format("other HDF5", HDF5_SUFFIXES, read_hdf5),
    Format("MATLAB", (".mat",), read_matlab),
    Format("NumPy archive", (".npz",), read_npz),
    Format("NumPy", (".npy",), read_npy),
)


def read_kspace(path: Path, key: str | None = None, axes: str | None = None) -> RawKSpace:
    """K-space of the file at ``path``, recognised by its name and, for HDF5, its content.

    Args:
        path: A local file of any accepted format.
        key: Which array of the file; None takes the only complex one. An array named ``trajectory`` beside it
            makes it non-Cartesian.
        axes: Names of the array's axes in their order, separated by commas, of z, coil, ky and kx (for
            example ``"ky,kx,z"``) or of z, coil, readout and sample. None means all four in this order
            (fastMRI: z, ky, kx for a single coil).

    Raises:
        InputError: no such file, an unknown format or layout, real numbers, or axes that do not fit.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", "Check the path")
    row = find_format(path, FILES)
    if row is None:
        raise InputError(f"{path}: not a k-space format known here", f"Accepted: {listed(FILES)}")
    return row.read(path, key, axes)
