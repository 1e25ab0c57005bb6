"""The trajectory of non-Cartesian k-space: from ISMRMRD, or from the array beside it in the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.stores.schema import TRAJECTORY

READOUT_AXES = ("z", "coil", "readout", "sample")
_FARTHEST = 0.5 + 1e-3  # cycles per pixel: beyond, pixels cannot tell frequencies apart


def checked(where: str, path: NDArray[Any]) -> NDArray[np.float32]:
    """A trajectory as float32 (z or 1, readout, sample, 2); InputError if it cannot be one."""
    if path.dtype.kind not in "fiu" or path.ndim not in (3, 4) or path.shape[-1] != 2 or 0 in path.shape:
        raise InputError(
            f"{where}: {path.dtype} numbers of shape {path.shape}, expected real ones, "
            "([z,] readout, sample, 2), along y and x"
        )
    path = path.reshape(-1, *path.shape[-3:]).astype(np.float32)
    if not np.isfinite(path).all():
        raise InputError(f"{where}: has values that are NaN or infinite")
    if (farthest := float(np.abs(path).max())) > _FARTHEST:
        raise InputError(
            f"{where}: reaches {farthest:.4g} cycles per pixel, expected 0.5 at most",
            "Divide cycles over the field of view by the image's number of pixels, radians a pixel by 2 pi",
        )
    return path


def find_trajectory(
    where: str, arrays: Mapping[str, Any], *, reversed_axes: bool = False
) -> NDArray[np.float32] | None:
    """The array ``trajectory`` of a file, or None; ``reversed_axes`` says that it is stored in reverse."""
    if TRAJECTORY not in arrays:
        return None
    path = np.asarray(arrays[TRAJECTORY][...])
    return checked(f"{where} ({TRAJECTORY})", path.T if reversed_axes else path)


def along_readouts(
    path: Path, acquisitions: Any, samples: list[NDArray[np.complex64]]
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """ISMRMRD's acquisitions, sorted into slices, with their trajectory.

    Args:
        path: The file, for messages.
        acquisitions: The records of the file, one a readout.
        samples: The samples (coil, sample) of each record.

    Returns:
        K-space (slice, coil, readout, sample), and its trajectory (slice, readout, sample, 2).

    Raises:
        InputError: no trajectory in the records, one in 3D, or readouts that differ in number or length.
    """
    heads = acquisitions["head"]
    if (dimensions := set(np.unique(heads["trajectory_dimensions"]).tolist())) != {2}:
        found = ", ".join(map(str, sorted(dimensions)))
        raise InputError(
            f"{path}: trajectories of {found} dimensions, expected 2 (x and y) with every readout",
            "Write them beside the samples, and 3D scans slice by slice",
        )
    if len(partitions := np.unique(heads["idx"]["kspace_encode_step_2"])) > 1:
        raise InputError(
            f"{path}: {len(partitions)} partitions of a 3D trajectory, expected slices",
            "Transform them along z and write slice by slice",
        )
    if len(lengths := {own.shape[1] for own in samples}) > 1:
        raise InputError(f"{path}: readouts of {', '.join(map(str, sorted(lengths)))} samples")
    counters, slices = np.unique(heads["idx"]["slice"], return_inverse=True)
    numbers = np.bincount(slices)
    if numbers.min() != numbers.max():
        raise InputError(f"{path}: {numbers.min()} to {numbers.max()} readouts a slice")
    rows = [np.flatnonzero(slices == z) for z in range(len(counters))]  # in the order of acquisition
    k = np.stack([np.stack([samples[row] for row in own], axis=1) for own in rows])
    paths = np.stack([np.stack([_path(path, acquisitions[row]) for row in own]) for own in rows])
    return k, checked(str(path), paths)


def _path(path: Path, acquisition: Any) -> NDArray[np.float32]:
    """The trajectory (sample, 2) of a readout, along y and x, without the samples to discard."""
    head = acquisition["head"]
    read = np.asarray(acquisition["traj"], np.float32)
    if read.size != 2 * int(head["number_of_samples"]):
        raise InputError(
            f"{path}: acquisition {head['scan_counter']} has a trajectory of {read.size} numbers for "
            f"{head['number_of_samples']} samples"
        )
    kept = slice(int(head["discard_pre"]), int(head["number_of_samples"]) - int(head["discard_post"]))
    return read.reshape(-1, 2)[kept, ::-1]  # the file has x first
