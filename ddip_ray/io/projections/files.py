"""Projection files as they are: Data Exchange HDF5, MRC, npz. What the numbers mean is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.hdf5_array import HDF5Array
from ddip_ray.io.images.numpy import open_npz
from ddip_ray.io.images.volume import CHUNK_BYTES, mm_per
from ddip_ray.io.stores.arrays import shard_slices

ACCEPTED = "Accepted: Data Exchange HDF5 (.h5, .hdf5, .hdf), MRC (.mrc, .mrcs, .rec, .ali, .st), .npz"


@dataclass(frozen=True)
class RawProjections:
    """``data``: lazy dask array (view, row, column). ``flat``, ``dark``: mean (row, column) when present."""

    data: Any
    format: str
    angles_deg: NDArray[np.float64] | None = None
    is_transmission: bool | None = None
    flat: NDArray[np.float64] | None = None
    dark: NDArray[np.float64] | None = None
    pixel_mm: float | None = None
    history: tuple[str, ...] = ()


def read_projections(path: Path, key: str | None) -> RawProjections:
    """Read by the file's name; InputError for an unknown one."""
    if not path.is_file():
        raise InputError(f"{path}: no such file", "Check the path")
    last = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if last in (".h5", ".hdf5", ".hdf", ".nxs"):
        return _read_hdf5(path)
    if last == ".npz":
        return _read_npz(path, key)
    if last in (".mrc", ".mrcs", ".rec", ".ali", ".st"):
        return _read_mrc(path)
    raise InputError(f"{path}: not a projection format known here", ACCEPTED)


def _lazy_rows(where: str, array: Any) -> Any:
    """Dask array (view, row, column) in blocks of the sinograms that a shard will hold."""
    import dask.array as da

    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "iuf":
        raise InputError(
            f"{where}: {array.dtype} array of shape {array.shape}, expected real numbers (view, row, column)"
        )
    num_views, num_rows, num_columns = array.shape
    rows = max(1, min(shard_slices(num_rows), CHUNK_BYTES // (num_views * num_columns * 4)))
    return da.from_array(array, chunks=(num_views, rows, num_columns), name=False)


def _read_hdf5(path: Path) -> RawProjections:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({error})") from error
    with file:
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
        _lazy_rows(str(path), lazy_data), "Data Exchange HDF5", angles, True if flat is not None else None,
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


def _read_mrc(path: Path) -> RawProjections:
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
    return RawProjections(_lazy_rows(str(path), data), "MRC", pixel_mm=pixel_mm)


def _read_npz(path: Path, key: str | None) -> RawProjections:
    meanings = {"line_integrals": False, "transmission": True, "projections": None}
    with open_npz(path) as archive:
        names = archive.files
        found = key or next((name for name in meanings if name in names), None)
        if found is None or found not in names:
            wanted = key or ", ".join(meanings)
            raise InputError(f"{path}: no array {wanted}; it has {', '.join(names) or 'none'}")
        data = archive[found]
        angles = None
        if "angles_deg" in names:
            angles = np.asarray(archive["angles_deg"], dtype=np.float64).ravel()
        pixel_mm = float(archive["pixel_mm"]) if "pixel_mm" in names else None
    lazy_data = _lazy_rows(f"{path}: {found}", data)
    history = (f"array {found}",)
    return RawProjections(lazy_data, "npz", angles, meanings.get(found), pixel_mm=pixel_mm, history=history)
