"""HDF5 files: opening one, and a data set that is read later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs")
_MATLAB_COMPLEX = ("real", "imag")


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The open file at ``path``; InputError when it is not HDF5 or is damaged."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({error})") from error


@dataclass(frozen=True)
class HDF5Array:
    """A data set that opens its file for each read, so that a dask graph holds a path and no open file.

    MATLAB stores complex numbers as pairs of ``real`` and ``imag``; they are read as NumPy's complex numbers.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    stored_dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers that reading returns."""
        stored = self.stored_dtype
        return np.result_type(stored["real"], np.complex64) if stored.names == _MATLAB_COMPLEX else stored

    def __getitem__(self, index: Any) -> NDArray[Any]:
        import h5py

        with h5py.File(self.path, "r") as file:
            data: NDArray[Any] = file[self.key][index]
        if data.dtype.names == _MATLAB_COMPLEX:
            return (data["real"] + 1j * data["imag"]).astype(self.dtype)
        return data
