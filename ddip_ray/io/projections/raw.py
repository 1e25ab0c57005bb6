"""`RawProjections`, which every projection reader returns, and how it is made lazy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.stores.arrays import block_slices


@dataclass(frozen=True)
class RawProjections:
    """Projections as a file holds them; `open_projections` decides what the numbers mean.

    Attributes:
        data: Lazy dask array (view, row, column).
        format: Name of the file's format.
        angles_deg: Projection angles (view,) in degrees, or None when the file has none.
        is_transmission: Whether the numbers are I/I0 (True) or line integrals (False); None when the file
            does not say.
        flat: Mean flat-field frame (row, column), if the file has flat frames.
        dark: Mean dark frame (row, column), if the file has dark frames.
        pixel_mm: Side of a detector pixel, or None when the file does not say.
        history: What was done to the data, in words.
    """

    data: Any
    format: str
    angles_deg: NDArray[np.float64] | None = None
    is_transmission: bool | None = None
    flat: NDArray[np.float64] | None = None
    dark: NDArray[np.float64] | None = None
    pixel_mm: float | None = None
    history: tuple[str, ...] = ()


def lazy_rows(where: str, array: Any) -> Any:
    """A dask array (view, row, column) in blocks of the detector rows that a store's shard will hold."""
    import dask.array as da

    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "iuf":
        raise InputError(
            f"{where}: {array.dtype} array of shape {array.shape}, expected real numbers (view, row, column)"
        )
    num_views, num_rows, num_columns = array.shape
    rows = block_slices(num_rows, num_views * num_columns * 4)
    return da.from_array(array, chunks=(num_views, rows, num_columns), name=False)
