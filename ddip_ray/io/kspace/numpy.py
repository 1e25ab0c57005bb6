"""K-space in NumPy's files: .npy holds one array, .npz several."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddip_ray.errors import InputError
from ddip_ray.io.kspace.arrays import arranged, axis_names, kspace_among
from ddip_ray.io.kspace.raw import RawKSpace
from ddip_ray.io.npz import npz_array, open_npz
from ddip_ray.io.stores.schema import TRAJECTORY


def read_npz(path: Path, key: str | None, axes: str | None) -> RawKSpace:
    """The array ``key`` of an archive, or the only complex one."""
    with open_npz(path) as archive:
        names = {key, TRAJECTORY} if key is not None and key in archive.files else archive.files
        arrays = {name: npz_array(path, archive, name) for name in archive.files if name in names}
    return kspace_among(path, arrays, key, axes, "npz")


def read_npy(path: Path, key: str | None, axes: str | None) -> RawKSpace:
    """The array of an .npy file, which has no keys."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as npy ({error})") from error
    return RawKSpace(arranged(str(path), array, axis_names(axes)), "npy")
