"""K-space in a MATLAB file (.mat), of any version."""

from __future__ import annotations

from pathlib import Path

from ddip_ray.errors import InputError
from ddip_ray.io.kspace.arrays import kspace_among
from ddip_ray.io.kspace.hdf5 import hdf5_arrays
from ddip_ray.io.kspace.raw import RawKSpace


def read_matlab(path: Path, key: str | None, axes: str | None) -> RawKSpace:
    """The array ``key`` of a MATLAB file, or the only complex one; ``axes`` are those that MATLAB shows."""
    import h5py
    from scipy.io import loadmat

    if h5py.is_hdf5(path):  # version 7.3 stores the axes in reverse
        return kspace_among(path, hdf5_arrays(path), key, axes, "MATLAB 7.3", reversed_axes=True)
    try:
        arrays = loadmat(path)
    except (ValueError, OSError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a MATLAB file ({error})") from error
    found = {name: array for name, array in arrays.items() if not name.startswith("__")}
    return kspace_among(path, found, key, axes, "MATLAB")
