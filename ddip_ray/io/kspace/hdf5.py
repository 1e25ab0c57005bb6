"""K-space in an HDF5 file of no particular layout: an array of complex numbers among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddip_ray.io.hdf5 import HDF5Array, open_hdf5
from ddip_ray.io.kspace.arrays import kspace_among
from ddip_ray.io.kspace.raw import RawKSpace


def read_hdf5(path: Path, key: str | None, axes: str | None, format_name: str = "HDF5") -> RawKSpace:
    """The array ``key`` of an HDF5 file, or the only complex one.

    Args:
        path: The HDF5 file.
        key: Which array; None takes the only complex one.
        axes: Names of its axes, as for `read_kspace`.
        format_name: What the layout is called in the store's history.
    """
    return kspace_among(path, hdf5_arrays(path), key, axes, format_name)


def hdf5_arrays(path: Path) -> dict[str, Any]:
    """All data sets of an HDF5 file by name, not read yet."""
    import h5py

    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = HDF5Array(path, name, item.shape, item.dtype)

    with open_hdf5(path) as file:
        file.visititems(note)
    return found
