"""k-space as a file holds it, and the transforms along one of its axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawKSpace:
    """``data``: lazy dask array, complex64 (z, coil, ky, kx). ``voxel_mm``: (z, y, x) if the file knows.

    ``noise``: samples of noise alone, complex64 (coil, sample), if it has them.
    """

    data: Any
    format: str
    voxel_mm: tuple[float, float, float] | None = None
    history: tuple[str, ...] = ()
    noise: NDArray[np.complex64] | None = None


def centred(transform: Any, x: NDArray[Any], axis: int) -> NDArray[Any]:
    """An orthonormal transform along one axis, origin and zero frequency at size // 2."""
    out: NDArray[Any] = np.fft.fftshift(transform(np.fft.ifftshift(x, axis), axis=axis, norm="ortho"), axis)
    return out


def central(x: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """The ``size`` entries around the origin of one axis, a view."""
    first = x.shape[axis] // 2 - size // 2
    return x[(*[slice(None)] * axis, slice(first, first + size))]


def cropped(k: NDArray[np.complex64], size: int, axis: int) -> NDArray[np.complex64]:
    """k-space of the image's ``size`` central entries along ``axis``: (z, coil, ky, kx)."""
    image = central(centred(np.fft.ifft, k, axis), size, axis)
    return centred(np.fft.fft, image, axis).astype(np.complex64)
