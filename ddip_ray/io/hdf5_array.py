"""A data set in an HDF5 file that can wait to be read, and travel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MATLAB_COMPLEX = ("real", "imag")


@dataclass(frozen=True)
class HDF5Array:
    """A data set that opens its file for each read, so that a dask graph holds a path and no open file.

    MATLAB's complex numbers, pairs of ``real`` and ``imag``, become NumPy's.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    stored_dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        stored = self.stored_dtype
        return np.result_type(stored["real"], np.complex64) if stored.names == _MATLAB_COMPLEX else stored

    def __getitem__(self, index: Any) -> NDArray[Any]:
        import h5py

        with h5py.File(self.path, "r") as file:
            data: NDArray[Any] = file[self.key][index]
        if data.dtype.names == _MATLAB_COMPLEX:
            return (data["real"] + 1j * data["imag"]).astype(self.dtype)
        return data
