"""k-space files as they are: fastMRI HDF5, ISMRMRD, twix, MATLAB, npz, npy. Slices first, then coils."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ddip_ray.errors import InputError
from ddip_ray.io.hdf5_array import HDF5Array
from ddip_ray.io.images.numpy import npz_array, open_npz
from ddip_ray.io.kspace.ismrmrd import is_ismrmrd, numbers, read_ismrmrd
from ddip_ray.io.kspace.raw import RawKSpace, cropped
from ddip_ray.io.kspace.trajectory import READOUT_AXES, beside
from ddip_ray.io.kspace.twix import read_twix
from ddip_ray.io.stores.schema import TRAJECTORY

ACCEPTED = "Accepted: fastMRI or ISMRMRD HDF5 (.h5, .hdf5), Siemens twix (.dat), MATLAB (.mat), .npz, .npy"
AXES = ("z", "coil", "ky", "kx")
_FASTMRI_KEY, _FASTMRI_HEADER = "kspace", "ismrmrd_header"


def read_kspace(path: Path, key: str | None = None, axes: str | None = None) -> RawKSpace:
    """Read by the file's name.

    Args:
        key: which array; None: the only complex one. It is non-Cartesian if ``trajectory`` stands beside it.
        axes: names of the array's axes in their order, of z, coil, ky and kx, e.g. ``"ky,kx,z"``, or of z,
            coil, readout and sample; None: all four in this order (fastMRI: z, ky, kx for one coil).

    Raises:
        InputError: no such file, an unknown format or layout, real numbers, or axes that do not fit.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", "Check the path")
    if path.suffix.lower() == ".dat":
        _require_no_choice(path, key, axes)
        return read_twix(path)
    readers = {".h5": _hdf5, ".hdf5": _hdf5, ".mat": _matlab, ".npz": _npz, ".npy": _npy}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: not a k-space format known here", ACCEPTED)
    return readers[path.suffix.lower()](path, key, axes)


def _require_no_choice(path: Path, key: str | None, axes: str | None) -> None:
    for option, value in (("--key", key), ("--axes", axes)):
        if value is not None:
            raise InputError(
                f"{path}: {option} {value}, but the file says itself what it holds", "Leave it out"
            )


def arranged(where: str, array: Any, axes: Sequence[str] | None, known: Sequence[str] = AXES) -> Any:
    """The array as a lazy one whose axes are the ``known`` ones in their order, a slice a block."""
    import dask.array as da

    if array.dtype.kind != "c":
        raise InputError(f"{where}: {array.dtype} numbers, expected complex ones", "k-space is complex")
    down, along = known[2:]
    if axes is None and array.ndim != len(known):
        raise InputError(
            f"{where}: shape {array.shape}, expected four axes ({', '.join(known)})",
            f"Name them: --axes coil,{down},{along} for one slice, --axes z,{down},{along} for one coil",
        )
    names = tuple(axes or known)
    if (
        len(names) != array.ndim
        or len(set(names)) != len(names)
        or not {down, along} <= set(names) <= set(known)
    ):
        raise InputError(
            f"{where}: axes {','.join(names)} for an array of shape {array.shape}",
            f"Name each axis once, of z, coil, {down} and {along}; {down} and {along} must be there",
        )
    if 0 in array.shape:
        raise InputError(f"{where}: empty, shape {array.shape}")
    lazy = da.from_array(array, chunks=tuple(1 if name == "z" else -1 for name in names), name=False)
    lazy = lazy.transpose([names.index(name) for name in known if name in names])
    missing = tuple(slice(None) if name in names else None for name in known)
    return lazy[missing].astype(np.complex64)


def _axes(text: str | None) -> Sequence[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _only_complex(path: Path, arrays: dict[str, Any], key: str | None) -> tuple[str, Any]:
    """The array that is meant, of all that the file holds."""
    found = {name: array for name, array in arrays.items() if getattr(array, "ndim", 0) >= 2}
    if key is not None:
        if key not in found:
            raise InputError(f"{path}: no array {key!r}, there are {', '.join(sorted(found)) or 'none'}")
        return key, found[key]
    chosen = [name for name, array in found.items() if array.dtype.kind == "c"]
    if len(chosen) != 1:
        there = f"among {', '.join(sorted(found)) or 'none'}"
        if not chosen:
            raise InputError(f"{path}: no complex array {there}", "k-space is complex")
        several = ", ".join(sorted(chosen))
        raise InputError(f"{path}: several complex arrays ({several}) {there}", "Name one: --key NAME")
    return chosen[0], found[chosen[0]]


def _of_arrays(
    path: Path,
    arrays: dict[str, Any],
    key: str | None,
    axes: Sequence[str] | None,
    format_name: str,
    *,
    turned: bool = False,
) -> RawKSpace:
    """The one that is meant, and the ``trajectory`` beside it; ``turned``: all axes are stored in reverse."""
    name, array = _only_complex(path, arrays, key)
    along = beside(str(path), arrays, turned=turned)
    known = AXES if along is None else READOUT_AXES
    if turned:
        axes = tuple(reversed(axes or known))
    data = arranged(f"{path} ({name})", array, axes, known)
    return RawKSpace(data, format_name, trajectory=along)


def _npz(path: Path, key: str | None, axes: str | None) -> RawKSpace:
    with open_npz(path) as archive:
        names = {key, TRAJECTORY} if key is not None and key in archive.files else archive.files
        arrays = {name: npz_array(path, archive, name) for name in archive.files if name in names}
    return _of_arrays(path, arrays, key, _axes(axes), "npz")


def _npy(path: Path, key: str | None, axes: str | None) -> RawKSpace:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as npy ({error})") from error
    return RawKSpace(arranged(str(path), array, _axes(axes)), "npy")


def _matlab(path: Path, key: str | None, axes: str | None) -> RawKSpace:
    import h5py
    from scipy.io import loadmat

    if h5py.is_hdf5(path):  # version 7.3, which turns axes round
        return _hdf5_array(path, key, axes, "MATLAB 7.3", turned=True)
    try:
        arrays = loadmat(path)
    except (ValueError, OSError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a MATLAB file ({error})") from error
    found = {name: array for name, array in arrays.items() if not name.startswith("__")}
    return _of_arrays(path, found, key, _axes(axes), "MATLAB")


def _hdf5(path: Path, key: str | None, axes: str | None) -> RawKSpace:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if is_ismrmrd(file):
                _require_no_choice(path, key, axes)
                return read_ismrmrd(path)
            is_fastmri = key is None and _FASTMRI_KEY in file and TRAJECTORY not in file
            header = file[_FASTMRI_HEADER][()] if _FASTMRI_HEADER in file else None
            shape = file[_FASTMRI_KEY].shape if is_fastmri else ()
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({error})") from error
    if not is_fastmri:
        return _hdf5_array(path, key, axes, "HDF5")
    default = "z,ky,kx" if len(shape) == 3 else None
    raw = _hdf5_array(path, _FASTMRI_KEY, axes or default, "fastMRI HDF5")
    return raw if header is None else _without_oversampling(path, raw, header)


def _hdf5_array(
    path: Path, key: str | None, axes: str | None, format_name: str, *, turned: bool = False
) -> RawKSpace:
    import h5py

    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = HDF5Array(path, name, item.shape, item.dtype)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(note)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({error})") from error
    return _of_arrays(path, found, key, _axes(axes), format_name, turned=turned)


def _without_oversampling(path: Path, raw: RawKSpace, header: Any) -> RawKSpace:
    """fastMRI's readout, the third axis, covers twice the field of view: the outer half holds no object."""
    try:
        root = ElementTree.fromstring(header)
        spaces = [root.find(f".//{{*}}{name}") for name in ("encodedSpace", "reconSpace")]
        encoded, recon = (numbers(space, "matrixSize") for space in spaces)
        fov = numbers(spaces[0], "fieldOfView_mm")
    except (ElementTree.ParseError, AttributeError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {_FASTMRI_HEADER} is not an ISMRMRD header ({error!r})") from error
    rows, wanted = raw.data.shape[2], int(recon[0])
    voxel = (fov[2], fov[0] / encoded[0], fov[1] / raw.data.shape[3])
    data, history = raw.data, raw.history
    if rows == int(encoded[0]) and wanted < rows:
        data = data.map_blocks(cropped, wanted, 2, chunks=(*data.chunks[:2], (wanted,), data.chunks[3]))
        history = (*history, f"readout oversampling removed: {wanted} of {rows} rows of the image kept")
    return RawKSpace(data, raw.format, voxel, history)
