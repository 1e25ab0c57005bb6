"""`RawKSpace`, which every k-space reader returns, and the steps that readers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.stores.schema import Orientation

BOTH_DIRECTIONS = "echoes in both directions (EPI) need a phase correction", "Correct and sort them first"


@dataclass(frozen=True)
class RawKSpace:
    """K-space as a file holds it, not read yet.

    Attributes:
        data: Lazy dask array, complex64 (z, coil, ky, kx), or (z, coil, readout, sample) along a trajectory.
        format: Name of the file's format.
        voxel_mm: Voxel size (z, y, x), or None when the file does not say.
        history: What was done to the data, in words.
        noise: Samples of noise alone, complex64 (coil, sample), if the file has them.
        orientation: Directions of the slices as images.
        trajectory: float32 (z or 1, readout, sample, 2) in cycles per pixel along y and x, or None.
        image_shape: Shape (y, x) of the images, or None when the file does not say.
    """

    data: Any
    format: str
    voxel_mm: tuple[float, float, float] | None = None
    history: tuple[str, ...] = ()
    noise: NDArray[np.complex64] | None = None
    orientation: Orientation = field(default_factory=Orientation)
    trajectory: NDArray[np.float32] | None = None
    image_shape: tuple[int, int] | None = None


def centred(transform: Any, x: NDArray[Any], axis: int) -> NDArray[Any]:
    """The orthonormal ``transform`` along one axis, with origin and zero frequency at size // 2."""
    out: NDArray[Any] = np.fft.fftshift(transform(np.fft.ifftshift(x, axis), axis=axis, norm="ortho"), axis)
    return out


def central(x: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """A view of the ``size`` entries around the origin of one axis."""
    first = x.shape[axis] // 2 - size // 2
    return x[(*[slice(None)] * axis, slice(first, first + size))]


def cropped(k: NDArray[np.complex64], size: int, axis: int) -> NDArray[np.complex64]:
    """K-space (z, coil, ky, kx) of the image cropped to its ``size`` central entries along ``axis``.

    Frequencies outside the sampled range stay 0.
    """
    others = tuple(other for other in range(k.ndim) if other != axis)
    taken = np.flatnonzero((k != 0).any(axis=others))
    image = central(centred(np.fft.ifft, k, axis), size, axis)
    out = np.moveaxis(centred(np.fft.fft, image, axis).astype(np.complex64), axis, -1)
    before = k.shape[axis] // 2 + (np.arange(size) - size // 2) * k.shape[axis] / size
    if len(taken):
        out[..., (before < taken[0]) | (before > taken[-1])] = 0
    return np.moveaxis(out, -1, axis)


def as_slices(
    path: Path, k: NDArray[np.complex64], columns: int, history: list[str]
) -> tuple[NDArray[np.complex64], bool]:
    """Split k-space into slices and remove its readout oversampling.

    A 3D scan is cut into slices along its readout kx: kz becomes ky, ky becomes kx.

    Args:
        path: The file, for messages.
        k: K-space (slice, coil, kz, ky, kx).
        columns: How many central columns of the image are kept along the readout.
        history: Lines about what was done are added here.

    Returns:
        K-space (z, coil, ky, kx), and whether the slices are cut from a 3D scan.

    Raises:
        InputError: several slabs of 3D k-space.
    """
    is_3d, wide = k.shape[2] > 1, k.shape[4]
    if is_3d and len(k) > 1:
        raise InputError(f"{path}: {len(k)} slabs of 3D k-space, expected one", "Write one slab a file")
    if is_3d:
        image = central(centred(np.fft.ifft, k[0], 3), columns, 3)
        k = np.moveaxis(image, 3, 0).astype(np.complex64)
        history.append("3D scan: slices along its readout; ky is its third dimension, kx its second")
    else:
        k = cropped(k[:, :, 0], columns, 3) if columns < wide else k[:, :, 0]
    if columns < wide:
        history.append(f"readout oversampling removed: {columns} of {wide} kept")
    return k, is_3d


def stack_order(positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], float | None]:
    """The spatial order of slices and their distance in mm, from their centres (slice, 3) in mm.

    The file's slice counter may count in the order of acquisition. It is used only if positions are missing
    or two of them coincide; the distance is None then.
    """
    apart = positions - positions[0]
    farthest = apart[np.argmax(np.linalg.norm(apart, axis=1))]
    length = float(np.linalg.norm(farthest))
    if length == 0:
        return np.arange(len(positions)), None
    upwards = np.sign(farthest[np.argmax(np.abs(farthest))])
    height = apart @ farthest / length * upwards
    order = np.argsort(height)
    steps = np.diff(height[order])
    if steps.min() < 1e-3 * steps.max():
        return np.arange(len(positions)), None
    return order, float(np.median(steps))


def orientation(
    centre: NDArray[np.float64], steps: NDArray[np.float64], image_shape: tuple[int, int]
) -> Orientation:
    """The orientation of a stack of images from the place of its first image in the scanner.

    Args:
        centre: Position of that image's pixel (ny // 2, nx // 2), in mm towards Left, Posterior and Superior,
            the directions of ISMRMRD, DICOM and Siemens.
        steps: Vectors from a voxel to its neighbour along x, y and z, one a row, in the same frame.
        image_shape: Shape (ny, nx) of the images.

    Returns:
        The orientation; an unknown one if the steps do not span space.
    """
    from nibabel import aff2axcodes

    ny, nx = image_shape
    affine = np.eye(4)
    affine[:3, :3] = steps.T
    affine[:3, 3] = centre - nx // 2 * steps[0] - ny // 2 * steps[1]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    lengths = np.linalg.norm(steps, axis=1)
    if not abs(np.linalg.det(steps)) > 0.1 * lengths.prod() > 0:
        return Orientation()
    x, y, z = aff2axcodes(affine)
    rows: Any = tuple(tuple(float(value) for value in row) for row in affine)
    return Orientation(directions=f"{z}{y}{x}", affine=rows)
