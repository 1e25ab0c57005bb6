"""A data set in an HDF5 file that can wait to be read, and travel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class HDF5Array:
    """A data set that opens its file for each read, so that a dask graph holds a path and no open file."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        import h5py

        with h5py.File(self.path, "r") as file:
            data: NDArray[Any] = file[self.key][index]
            return data
