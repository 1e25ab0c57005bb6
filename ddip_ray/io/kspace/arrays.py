"""K-space among the arrays of a file that does not say what they are: which array, and which axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddip_ray.errors import InputError
from ddip_ray.io.kspace.raw import RawKSpace
from ddip_ray.io.kspace.trajectory import READOUT_AXES, find_trajectory

AXES = ("z", "coil", "ky", "kx")


def kspace_among(
    path: Path,
    arrays: dict[str, Any],
    key: str | None,
    axes: str | None,
    format_name: str,
    *,
    reversed_axes: bool = False,
) -> RawKSpace:
    """K-space from the arrays of a file, with the array ``trajectory`` if there is one.

    Args:
        path: The file, for messages.
        arrays: All arrays of the file by name.
        key: Which of them is k-space; None takes the only complex one.
        axes: Names of its axes, as for `read_kspace`.
        format_name: What the format is called in the store's history.
        reversed_axes: Whether the file stores all axes in reverse, as MATLAB 7.3 does.

    Raises:
        InputError: no such array, several complex ones, or axes that do not fit.
    """
    name, array = _only_complex(path, arrays, key)
    trajectory = find_trajectory(str(path), arrays, reversed_axes=reversed_axes)
    known = AXES if trajectory is None else READOUT_AXES
    names = axis_names(axes)
    if reversed_axes:
        names = tuple(reversed(names or known))
    data = arranged(f"{path} ({name})", array, names, known)
    return RawKSpace(data, format_name, trajectory=trajectory)


def axis_names(text: str | None) -> Sequence[str] | None:
    """The names in a text separated by commas."""
    return None if text is None else [name.strip() for name in text.split(",")]


def arranged(where: str, array: Any, axes: Sequence[str] | None, known: Sequence[str] = AXES) -> Any:
    """A lazy complex64 array whose axes are all of ``known`` in this order, one slice a block.

    Args:
        where: File and array, for messages.
        array: Array-like with complex numbers.
        axes: Names of its axes in their order; None means all of ``known``. Slices and coils may be missing.
        known: Names of the four axes of the result.

    Raises:
        InputError: real numbers, an empty array, or axes that do not fit.
    """
    import dask.array as da

    if array.dtype.kind != "c":
        raise InputError(f"{where}: {array.dtype} numbers, expected complex ones", "k-space is complex")
    down, along = known[2:]
    if axes is None and array.ndim != len(known):
        raise InputError(
            f"{where}: shape {array.shape}, expected four axes ({', '.join(known)})",
            f"Name them with `axes`: coil,{down},{along} for one slice, z,{down},{along} for one coil",
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


def require_no_choice(path: Path, key: str | None, axes: str | None) -> None:
    """InputError if an array or its axes are named for a file that says itself what it holds."""
    for parameter, value in (("key", key), ("axes", axes)):
        if value is not None:
            raise InputError(
                f"{path}: `{parameter}` is {value}, but the file says itself what it holds", "Leave it out"
            )


def _only_complex(path: Path, arrays: dict[str, Any], key: str | None) -> tuple[str, Any]:
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
        raise InputError(f"{path}: several complex arrays ({several}) {there}", "Name one with `key`")
    return chosen[0], found[chosen[0]]
