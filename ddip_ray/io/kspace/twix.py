"""Siemens raw data (twix, .dat), read with twixtools."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.kspace.arrays import require_no_choice
from ddip_ray.io.kspace.raw import BOTH_DIRECTIONS, RawKSpace, as_slices, stack_order

_KEPT_FIRST = {
    "Rep": "repetition",
    "Phs": "phase",
    "Eco": "echo",
    "Set": "set",
    **{f"Id{letter}": f"counter {letter}" for letter in "abcde"},
}
_SHORTEST_HEADER, _MAX_SCANS, _CARTESIAN = 10_000, 64, 1


def read_twix(path: Path, key: str | None = None, axes: str | None = None) -> RawKSpace:
    """The last scan of a measurement, with repeated lines averaged and readout oversampling removed.

    If there are several echoes, phases, repetitions or sets, the first is read. A 3D scan is cut into slices
    along its readout: partitions become ky, lines kx.

    Raises:
        InputError: not a twix file, no image in it, not Cartesian, echoes in both directions, a missing
            twixtools, or ``key`` or ``axes``, which the file itself says.
    """
    require_no_choice(path, key, axes)
    try:
        import twixtools
    except ImportError as error:
        raise InputError(f"{path}: Siemens raw data need twixtools", "pip install 'ddip-ray[mri]'") from error
    if not is_twix(path):
        raise InputError(f"{path}: cannot be read as Siemens twix (no header of it)")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # twixtools prints
            return _read(path, twixtools.map_twix(str(path), verbose=False))
    except InputError:
        raise
    except Exception as error:  # twixtools raises anything for a broken file
        message = f"{path}: cannot be read as Siemens twix ({error!r})"
        raise InputError(message, "Is the file whole?") from error


def _read(path: Path, scans: Any) -> RawKSpace:
    import dask.array as da

    if not scans or "image" not in scans[-1]:
        raise InputError(f"{path}: the last scan in the file holds no image")
    image, header = scans[-1]["image"], scans[-1]["hdr"]
    scan = header.get("MeasYaps", {}).get("sKSpace", {})
    if scan.get("ucTrajectory", _CARTESIAN) != _CARTESIAN:
        raise InputError(f"{path}: not a Cartesian trajectory", "Grid it first")
    if any(block.is_flag_set("REFLECT") for block in image.mdb_list):
        message, hint = BOTH_DIRECTIONS
        raise InputError(f"{path}: {message}", hint)
    k, history = _one_image(image)
    positions = np.zeros((len(k), 3))
    for block in image.mdb_list:
        at = block.mdh.SliceData.SlicePos
        positions[block.mdh.Counter.Sli] = at.Sag, at.Cor, at.Tra
    order, distance = stack_order(positions)
    k = k[order]
    for axis, centre in (
        (1, image.kspace_center_par),
        (2, image.kspace_center_lin),
        (4, image.kspace_center_col),
    ):
        k = centred_at(k, axis, int(centre))
    k = np.moveaxis(k, 3, 1)  # (slice, coil, partition, line, column)
    factor = float(header.get("Meas", {}).get("flReadoutOSFactor") or 1.0)
    columns = round(k.shape[4] / factor)
    _, _, partitions, lines, _ = k.shape
    k, is_3d = as_slices(path, k, columns, history)
    voxel = _voxel_mm(header, (partitions, lines, columns))
    if voxel is not None:
        z, y, x = voxel
        voxel = (x, z, y) if is_3d else (distance or z, y, x)
    noise = [scan["noise"][:] for scan in scans if "noise" in scan]
    together = None
    if noise:
        samples = np.moveaxis(noise[-1], -2, 0)
        together = samples.reshape(len(samples), -1).astype(np.complex64)
    data = da.from_array(k, chunks=(1, -1, -1, -1), name=False)
    return RawKSpace(data, "Siemens twix", voxel, tuple(history), together)


def is_twix(path: Path) -> bool:
    """Whether the file begins like twix data.

    Data of software version VB begin with the length of their header, later ones with the number of scans.
    """
    words = np.fromfile(path, "<u4", 2)
    if len(words) < 2:
        return False
    first, second = map(int, words)
    return 1 <= second <= _MAX_SCANS if first < _SHORTEST_HEADER else first < path.stat().st_size


def centred_at(k: NDArray[np.complex64], axis: int, centre: int) -> NDArray[np.complex64]:
    """K-space padded with zeros where a partial acquisition stopped, so that ``centre`` becomes size // 2.

    Sequences that do not set the centre say 0, which is taken as the middle.
    """
    n = k.shape[axis]
    if centre in (0, n // 2):
        return k
    half = max(centre, n - centre)
    padding = [(0, 0)] * k.ndim
    padding[axis] = (half - centre, 2 * half - n - (half - centre))
    return np.pad(k, padding)


def _one_image(image: Any) -> tuple[NDArray[np.complex64], list[str]]:
    """The first image (slice, partition, line, coil, column), averaged, and what was left out."""
    history, index = [], []
    for name, size in zip(image.dims, image.shape, strict=True):
        first = name in _KEPT_FIRST and size > 1
        index.append(slice(0, 1) if first else slice(None))
        if first:
            history.append(f"{_KEPT_FIRST[name]} 0 of {size}")
    order = ("Sli", "Par", "Lin", "Cha", "Col")
    read = image[tuple(index)]
    axes = [image.dims.index(name) for name in order]
    others = [axis for axis in range(read.ndim) if axis not in axes]
    k: NDArray[np.complex64] = read.transpose(others + axes).reshape([read.shape[axis] for axis in axes])
    return k.astype(np.complex64), history


def _voxel_mm(header: Any, shape: tuple[int, int, int]) -> tuple[float, float, float] | None:
    """The voxel of a scan of ``shape`` (partitions, lines, columns); None if the header does not say."""
    try:
        first, scan = header["MeasYaps"]["sSliceArray"]["asSlice"][0], header["MeasYaps"]["sKSpace"]
        slab = float(first["dThickness"]) * (1 + float(scan.get("dSliceOversamplingForDialog", 0)))
        phase = float(first["dPhaseFOV"]) * (1 + float(scan.get("dPhaseOversamplingForDialog", 0)))
        return slab / shape[0], phase / shape[1], float(first["dReadoutFOV"]) / shape[2]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
