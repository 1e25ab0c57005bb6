"""The Fourier transform of images at arbitrary frequencies, by a non-uniform FFT on the CPU (finufft)."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Relative accuracy of the transform, which its adjoint shares to rounding, and oversampling of the grid
# behind it: 1.25 is four times faster than 2.
_ACCURACY = {"complex64": {"eps": 3e-5, "upsampfac": 1.25}, "complex128": {"eps": 1e-13, "upsampfac": 2.0}}


def nufft_unavailable() -> str | None:
    """Return why non-Cartesian k-space cannot be transformed here; None if it can."""
    if importlib.util.find_spec("finufft") is None:
        return "non-Cartesian k-space needs finufft: pip install 'ddip-ray[nufft]'"
    return None


def nufft(trajectory: NDArray[Any], images: NDArray[Any]) -> NDArray[Any]:
    """Return samples (coil, readout, sample) of the orthonormal transform of ``images: (coil, y, x)``.

    ``trajectory`` (readout, sample, 2) is in cycles per pixel along y and x.
    """
    import finufft

    along_y, along_x = _radians(trajectory, images.real.dtype)
    accuracy = _ACCURACY[images.dtype.name]
    y = finufft.nufft2d2(along_y, along_x, images, isign=-1, nthreads=1, **accuracy)
    out: NDArray[Any] = y.reshape(len(images), *trajectory.shape[:2]) / math.sqrt(images[0].size)
    return out


def nufft_adjoint(trajectory: NDArray[Any], y: NDArray[Any], image_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the adjoint of `nufft`, (coil, y, x), of samples ``y: (coil, readout, sample)``."""
    import finufft

    along_y, along_x = _radians(trajectory, y.real.dtype)
    accuracy, samples = _ACCURACY[y.dtype.name], y.reshape(len(y), -1)
    x = finufft.nufft2d1(along_y, along_x, samples, image_shape, isign=1, nthreads=1, **accuracy)
    out: NDArray[Any] = x.reshape(len(y), *image_shape) / math.sqrt(math.prod(image_shape))
    return out


def _radians(trajectory: NDArray[Any], dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return radians per pixel, along y and x."""
    turned = 2 * np.pi * trajectory.reshape(-1, 2).astype(np.float64)
    return tuple(np.ascontiguousarray(turned[:, axis], dtype=dtype) for axis in (0, 1))  # type: ignore[return-value]
