"""NumPy archives (.npz), opened without unpickling anything."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError

_BROKEN = (OSError, ValueError, zipfile.BadZipFile, EOFError)


def open_npz(path: Path) -> Any:
    """The open archive at ``path``; InputError when the file is no archive."""
    try:
        return np.load(path, allow_pickle=False)
    except _BROKEN as error:
        raise InputError(f"{path}: cannot be read as npz ({error})") from error


def npz_array(path: Path, archive: Any, name: str) -> NDArray[Any]:
    """One array of an open archive; InputError when it holds Python objects or is broken."""
    try:
        array: NDArray[Any] = archive[name]
    except _BROKEN as error:
        message = f"{path}: array {name!r} cannot be read ({error})"
        raise InputError(message, "Write the file without it") from error
    return array
