"""ISMRMRD files: acquisitions, each with a header, sorted into slices of k-space.

The layout is that of Inati et al. (2017), "ISMRM Raw data format", doi:10.1002/mrm.26089.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.hdf5 import open_hdf5
from ddip_ray.io.kspace.arrays import require_no_choice
from ddip_ray.io.kspace.raw import BOTH_DIRECTIONS, RawKSpace, as_slices, orientation, stack_order
from ddip_ray.io.kspace.trajectory import along_readouts
from ddip_ray.io.stores.schema import Orientation

# Bits of an acquisition's flags, counted from 1.
_NOISE, _CALIBRATION, _CALIBRATION_AND_IMAGE, _REVERSE = 19, 20, 21, 22
_NOT_IMAGE = (23, 24, 26, 27, 28, 29, 30, 31)  # navigators, phase corrections, feedback, dummies
_UNEVEN, _TURNED = 0.01, 1e-3  # tolerances, relative to the distance of slices and to a unit vector
_KEPT_FIRST = ("contrast", "phase", "repetition", "set")  # counters of several images of a slice


@dataclass(frozen=True)
class Header:
    """The scan as the XML header describes it; ``matrix`` and ``voxel`` (in mm) are (x, y, z).

    ``centre`` is the line and the partition of zero frequency.
    """

    trajectory: str
    matrix: tuple[int, int, int]
    recon_x: int
    recon_y: int
    voxel: tuple[float, float, float]
    centre: tuple[int, int]  # (ky, kz)


def is_ismrmrd(path: Path) -> bool:
    """Whether an HDF5 file has a group of acquisitions."""
    with open_hdf5(path) as file:
        return _group(file) is not None


def read_ismrmrd(path: Path, key: str | None = None, axes: str | None = None) -> RawKSpace:
    """The slices of a 2D scan, or of a 3D scan cut along its readout; 2D trajectories are kept.

    Lines that were taken more than once are averaged; readout oversampling is removed. The third dimension
    of a 3D scan becomes ky, its second kx.

    Raises:
        InputError: a trajectory in 3D, echoes in both directions, lines that do not fit the matrix, or
            ``key`` or ``axes``, which the file itself says.
    """
    import dask.array as da

    require_no_choice(path, key, axes)
    with open_hdf5(path) as file:
        group = file[_group(file)]
        header = parse_header(path, group["xml"][0])
        acquisitions = group["data"][:]
    heads = acquisitions["head"]
    is_noise, is_first = _flagged(heads, _NOISE), heads["encoding_space_ref"] == 0
    calibrates = _flagged(heads, _CALIBRATION) & ~_flagged(heads, _CALIBRATION_AND_IMAGE)
    chosen, history = _one_image(heads, is_first & ~(is_noise | calibrates | _flagged(heads, *_NOT_IMAGE)))
    if not chosen.any():
        raise InputError(f"{path}: no acquisition of an image among {len(heads)}")
    noise = [_samples(path, acquisition) for acquisition in acquisitions[is_noise]]
    _num_coils(path, heads[is_noise])
    together = np.concatenate(noise, axis=1) if noise else None
    positions, (x, y, z) = _positions(heads[chosen]), header.voxel
    order, distance = stack_order(positions)
    if header.trajectory != "cartesian":
        _num_coils(path, heads[chosen])
        samples = [_samples(path, acquisition) for acquisition in acquisitions[chosen]]
        k, along = along_readouts(path, acquisitions[chosen], samples)
        shape, voxel, is_3d = (header.recon_y, header.recon_x), (distance or z, y, x), False
        history.append(f"trajectory: {header.trajectory}")
        k, trajectory = k[order], along[order]
    else:
        if _flagged(heads[chosen], _REVERSE).any():
            message, hint = BOTH_DIRECTIONS
            raise InputError(f"{path}: {message}", hint)
        k, is_3d = as_slices(
            path, _sorted(path, acquisitions[chosen], header)[order], header.recon_x, history
        )
        shape, voxel, trajectory = k.shape[2:], (x, z, y) if is_3d else (distance or z, y, x), None
    place = _orientation(heads[chosen], positions[order], voxel, (len(k), *shape), is_3d=is_3d)
    data = da.from_array(k, chunks=(1, -1, -1, -1), name=False)
    return RawKSpace(data, "ISMRMRD", voxel, tuple(history), together, place, trajectory, shape)


def parse_header(path: Path, text: bytes | str) -> Header:
    """The first encoding that the XML header describes."""
    try:
        encoding = _found(ElementTree.fromstring(text), "encoding")
        trajectory = str(_found(encoding, "trajectory").text)
        x, y, z = (int(n) for n in numbers(_found(encoding, "encodedSpace"), "matrixSize"))
        fov = numbers(_found(encoding, "encodedSpace"), "fieldOfView_mm")
        recon_x, recon_y, _ = (int(n) for n in numbers(_found(encoding, "reconSpace"), "matrixSize"))
        centre = [encoding.find(f".//{{*}}kspace_encoding_step_{k}/{{*}}center") for k in (1, 2)]
        centre_y, centre_z = (
            n // 2 if found is None else int(found.text or "")
            for found, n in zip(centre, (y, z), strict=True)
        )
    except (ElementTree.ParseError, AttributeError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"{path}: the XML header is not one of ISMRMRD ({error!r})") from error
    if min(x, y, z) < 1:
        raise InputError(f"{path}: a matrix of {x} x {y} x {z}")
    voxel = (fov[0] / x, fov[1] / y, fov[2] / z)
    return Header(trajectory, (x, y, z), min(recon_x, x), min(recon_y, y), voxel, (centre_y, centre_z))


def numbers(space: Any, field: str) -> tuple[float, float, float]:
    """The values x, y and z of a field of ``encodedSpace`` or ``reconSpace``."""
    x, y, z = (float(space.find(f"{{*}}{field}/{{*}}{axis}").text) for axis in "xyz")
    return x, y, z


def _found(element: Any, name: str) -> Any:
    found = element.find(f"{{*}}{name}")
    if found is None:
        raise LookupError(f"no {name}")
    return found


def _group(file: Any) -> str | None:
    import h5py

    for name, item in file.items():
        if isinstance(item, h5py.Group) and {"data", "xml"} <= set(item):
            fields = getattr(item["data"], "dtype", np.dtype(float)).names or ()
            if {"head", "data"} <= set(fields):
                return str(name)
    return None


def _flagged(heads: Any, *bits: int) -> NDArray[np.bool_]:
    mask = np.uint64(sum(1 << (bit - 1) for bit in bits))
    flagged: NDArray[np.bool_] = (heads["flags"] & mask) != 0
    return flagged


def _one_image(heads: Any, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str]]:
    """The acquisitions of the first contrast, phase, repetition and set, and what was left out."""
    history = []
    for counter in _KEPT_FIRST:
        values = np.unique(heads["idx"][counter][chosen])
        if len(values) > 1:
            chosen = chosen & (heads["idx"][counter] == values[0])
            history.append(f"{counter} {values[0]} of {len(values)}")
    return chosen, history


def _sorted(path: Path, acquisitions: Any, header: Header) -> NDArray[np.complex64]:
    """K-space (slice, coil, kz, ky, kx); acquisitions of the same line are averaged."""
    nx, ny, nz = header.matrix
    heads = acquisitions["head"]
    counters, slices = np.unique(heads["idx"]["slice"], return_inverse=True)
    k = np.zeros((len(counters), _num_coils(path, heads), nz, ny, nx), np.complex64)
    count = np.zeros((len(counters), nz, ny, nx), np.float32)
    for z, acquisition in zip(slices, acquisitions, strict=True):
        head, samples = acquisition["head"], _samples(path, acquisition)
        first = nx // 2 - (int(head["center_sample"]) - int(head["discard_pre"]))
        row = int(head["idx"]["kspace_encode_step_1"]) - header.centre[0] + ny // 2
        plane = int(head["idx"]["kspace_encode_step_2"]) - header.centre[1] + nz // 2
        stop = first + samples.shape[1]
        if not (0 <= row < ny and 0 <= plane < nz and first >= 0 and stop <= nx):
            raise InputError(
                f"{path}: acquisition {head['scan_counter']} lies at kx {first} to {stop - 1}, ky {row}, "
                f"kz {plane}, outside the matrix of {nx} x {ny} x {nz}"
            )
        k[z, :, plane, row, first:stop] += samples
        count[z, plane, row, first:stop] += 1
    k /= np.maximum(count, 1)[:, None]
    return k


def _num_coils(path: Path, heads: Any) -> int:
    num_coils = np.unique(heads["active_channels"])
    if len(num_coils) > 1:
        raise InputError(f"{path}: {', '.join(map(str, num_coils))} coils in different acquisitions")
    return int(num_coils[0]) if len(num_coils) else 0


def _positions(heads: Any) -> NDArray[np.float64]:
    """The centre of each slice in mm, (slice, 3)."""
    _, firsts = np.unique(heads["idx"]["slice"], return_index=True)
    positions: NDArray[np.float64] = heads["position"][firsts].astype(np.float64)
    return positions


def _orientation(
    heads: Any,
    positions: NDArray[np.float64],
    voxel: tuple[float, float, float],
    shape: tuple[int, int, int],
    *,
    is_3d: bool,
) -> Orientation:
    """The orientation of slices at ``positions``; a 3D scan lies around its one position, its readout is z.

    It is unknown where slices are turned against each other or lie at uneven distances, which no affine can
    describe.
    """
    every = [heads[f"{name}_dir"].astype(np.float64) for name in ("read", "phase", "slice")]
    read, phase, through = (directions[0] for directions in every)
    between = np.diff(positions, axis=0)
    is_even = (
        np.allclose(between, between.mean(axis=0), rtol=0, atol=_UNEVEN * voxel[0]) if len(between) else True
    )
    if not is_even or any(not np.allclose(directions, directions[0], atol=_TURNED) for directions in every):
        return Orientation()
    num_slices, ny, nx = shape
    if is_3d:
        steps = np.stack([phase, through, read]) * np.array(voxel[::-1])[:, None]
        return orientation(positions[0] - num_slices // 2 * steps[2], steps, (ny, nx))
    if num_slices > 1:  # from the positions, because the slice direction may have the other sign
        through = (positions[-1] - positions[0]) / (num_slices - 1) / voxel[0]
    steps = np.stack([read, phase, through]) * np.array(voxel[::-1])[:, None]
    return orientation(positions[0], steps, (ny, nx))


def _samples(path: Path, acquisition: Any) -> NDArray[np.complex64]:
    """The samples (coil, sample) of one acquisition without those that its header says to discard."""
    head = acquisition["head"]
    data = np.asarray(acquisition["data"], np.float32)
    shape = int(head["active_channels"]), int(head["number_of_samples"])
    if data.size != 2 * shape[0] * shape[1]:
        raise InputError(
            f"{path}: acquisition {head['scan_counter']} has {data.size} numbers for {shape[0]} coils of "
            f"{shape[1]} complex samples"
        )
    samples = data.view(np.complex64).reshape(shape)
    return samples[:, int(head["discard_pre"]) : samples.shape[1] - int(head["discard_post"])]
