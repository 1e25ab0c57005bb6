"""K-space in the HDF5 layout of the fastMRI data set (Zbontar et al., 2018, arXiv 1811.08839)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ddip_ray.errors import InputError
from ddip_ray.io.hdf5 import open_hdf5
from ddip_ray.io.kspace.hdf5 import read_hdf5
from ddip_ray.io.kspace.ismrmrd import numbers
from ddip_ray.io.kspace.raw import RawKSpace, cropped
from ddip_ray.io.stores.schema import TRAJECTORY

_KEY, _HEADER = "kspace", "ismrmrd_header"


def is_fastmri(path: Path) -> bool:
    """Whether an HDF5 file has an array ``kspace`` and no trajectory."""
    with open_hdf5(path) as file:
        return _KEY in file and TRAJECTORY not in file


def read_fastmri(path: Path, key: str | None, axes: str | None) -> RawKSpace:
    """The array ``kspace`` without its readout oversampling, or any other array as it is."""
    if key is not None:
        return read_hdf5(path, key, axes)
    with open_hdf5(path) as file:
        header = file[_HEADER][()] if _HEADER in file else None
        one_coil = len(file[_KEY].shape) == 3
    raw = read_hdf5(path, _KEY, axes or ("z,ky,kx" if one_coil else None), "fastMRI HDF5")
    return raw if header is None else _without_oversampling(path, raw, header)


def _without_oversampling(path: Path, raw: RawKSpace, header: Any) -> RawKSpace:
    """The readout (third axis) covers twice the field of view: the outer half holds no object."""
    try:
        root = ElementTree.fromstring(header)
        spaces = [root.find(f".//{{*}}{name}") for name in ("encodedSpace", "reconSpace")]
        encoded, recon = (numbers(space, "matrixSize") for space in spaces)
        fov = numbers(spaces[0], "fieldOfView_mm")
    except (ElementTree.ParseError, AttributeError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {_HEADER} is not an ISMRMRD header ({error!r})") from error
    rows, wanted = raw.data.shape[2], int(recon[0])
    voxel = (fov[2], fov[0] / encoded[0], fov[1] / raw.data.shape[3])
    data, history = raw.data, raw.history
    if rows == int(encoded[0]) and wanted < rows:
        data = data.map_blocks(cropped, wanted, 2, chunks=(*data.chunks[:2], (wanted,), data.chunks[3]))
        history = (*history, f"readout oversampling removed: {wanted} of {rows} rows of the image kept")
    return RawKSpace(data, raw.format, voxel, history)
