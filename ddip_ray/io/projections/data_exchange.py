"""Projections in HDF5 of the Data Exchange layout (De Carlo et al., 2014, doi:10.1107/S160057751401604X)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.hdf5 import HDF5Array, open_hdf5
from ddip_ray.io.lengths import mm_per
from ddip_ray.io.projections.raw import RawProjections, lazy_rows


def read_data_exchange(path: Path) -> RawProjections:
    """The array ``exchange/data`` with its angles, flat and dark frames, and pixel size.

    Raises:
        InputError: another layout, or frames that do not fit the data.
    """
    with open_hdf5(path) as file:
        if "exchange/data" not in file:
            raise InputError(f"{path}: HDF5 without exchange/data", "Only the Data Exchange layout is read")
        data = file["exchange/data"]
        lazy_data = HDF5Array(path, "exchange/data", data.shape, data.dtype)
        flat, dark = _mean_frame(file, "exchange/data_white"), _mean_frame(file, "exchange/data_dark")
        for name, frame in (("data_white", flat), ("data_dark", dark)):
            if frame is not None and frame.shape != data.shape[1:]:
                raise InputError(
                    f"{path}: exchange/{name} frames {frame.shape}, exchange/data frames {data.shape[1:]}"
                )
        if dark is not None and flat is None:
            raise InputError(f"{path}: exchange/data_dark without exchange/data_white")
        angles, history = _theta(file)
        pixel_mm = _pixel(file)
    if flat is not None:
        frames = "flat" if dark is None else "flat and dark"
        history.append(f"divided by the mean of the {frames} frames")
    return RawProjections(
        lazy_rows(str(path), lazy_data), "Data Exchange HDF5", angles, True if flat is not None else None,
        flat, dark, pixel_mm, tuple(history),
    )  # fmt: skip


def _mean_frame(file: Any, key: str) -> NDArray[np.float64] | None:
    if key not in file:
        return None
    frames = np.asarray(file[key][()], dtype=np.float64)
    return frames if frames.ndim == 2 else frames.mean(axis=0)


def _theta(file: Any) -> tuple[NDArray[np.float64] | None, list[str]]:
    if "exchange/theta" not in file:
        return None, []
    theta = np.asarray(file["exchange/theta"][()], dtype=np.float64).ravel()
    unit = file["exchange/theta"].attrs.get("units", b"")
    spelled = (unit.decode() if isinstance(unit, bytes) else str(unit)).lower()
    if spelled.startswith("deg"):
        return theta, []
    if spelled.startswith("rad"):
        return np.degrees(theta), ["angles were in radians"]
    # A scan of a few degrees in all is rarer than a file in radians that does not say so.
    span = float(np.ptp(theta)) if len(theta) else 0.0
    if len(theta) > 8 and span <= 2 * np.pi + 0.1:
        return np.degrees(theta), [f"angles taken as radians: they span {span:.3f} and no unit is given"]
    return theta, ["angles taken as degrees: no unit is given"]


def _pixel(file: Any) -> float | None:
    for name in ("pixel_size_x", "x_pixel_size"):
        key = f"measurement/instrument/detector/{name}"
        if key in file:
            unit = file[key].attrs.get("units", b"")
            factor = mm_per(unit.decode() if isinstance(unit, bytes) else str(unit))
            size = float(np.asarray(file[key][()]).ravel()[0])
            if factor is not None and size > 0:
                return size * factor
    return None
