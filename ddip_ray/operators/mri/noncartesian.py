"""k-space along any trajectory, of one coil or several, by a non-uniform FFT (finufft, an extra)."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.operators.mri.coil_products import combined, times
from ddip_ray.operators.mri.multi_coil import MultiCoil

# Relative accuracy of the transform, which its adjoint shares to rounding, and oversampling of the grid
# behind it: 1.25 is four times faster than 2.
_ACCURACY = {"complex64": {"eps": 3e-5, "upsampfac": 1.25}, "complex128": {"eps": 1e-13, "upsampfac": 2.0}}


def why_no_nufft() -> str | None:
    """What stands in its way."""
    if importlib.util.find_spec("finufft") is None:
        return "non-Cartesian k-space needs finufft: pip install 'ddip-ray[nufft]'"
    return None


class NonCartesianSense(MultiCoil):
    """Samples of the image's Fourier transform as each coil sees it, where a trajectory goes.

    y(k) = (ny nx)^(-1/2) Σ_r S_c(r) x(r) exp(−2πi k·r), pixels r counted from (ny // 2, nx // 2): on the
    Cartesian grid it is `Sense`. Computed on the CPU, whatever device the images are on. What a slice gives
    depends on it alone, in every bit.

    Args:
        trajectory: real, cycles per pixel along y and x, (readout, sample, 2), or (z, readout, sample, 2) of
            each slice. Frequencies that differ by 1 are the same to the pixels.
        sensitivity_maps: complex, (coil, y, x), or (z, coil, y, x) of each slice.
        sampling_mask: real 0 or 1, (readout, sample) or (z, readout, sample); 0 where a sample is left out.
            None: all are taken.

    With anything of each slice the operator is of exactly so many slices; else of any number.

    Raises:
        ValueError: shapes or dtypes that do not fit each other, at calls those of the tensor.
    """

    def __init__(
        self, trajectory: Tensor, sensitivity_maps: Tensor, sampling_mask: Tensor | None = None
    ) -> None:
        if trajectory.ndim not in (3, 4) or trajectory.shape[-1] != 2 or sensitivity_maps.ndim not in (3, 4):
            raise ValueError(
                "NonCartesianSense: expected trajectory ([z,] readout, sample, 2) and sensitivity_maps "
                f"([z,] coil, y, x), got shapes {tuple(trajectory.shape)} and {tuple(sensitivity_maps.shape)}"
            )
        mask = torch.ones(trajectory.shape[:-1]) if sampling_mask is None else sampling_mask
        if mask.shape != trajectory.shape[:-1]:
            raise ValueError(
                f"NonCartesianSense: sampling_mask of {tuple(mask.shape)}, trajectory of "
                f"{tuple(trajectory.shape)}"
            )
        num_paths = len(trajectory) if trajectory.ndim == 4 else None
        super().__init__(sensitivity_maps, mask, num_paths, "trajectory")
        self.trajectory = trajectory.reshape(-1, *trajectory.shape[-3:])

    def _measure(self, x: Tensor) -> Tensor:
        seen = _arrays(times(self.sensitivity_maps, x[:, None]))
        rows = [_transform(self._path(z), images) for z, images in enumerate(seen)]
        return self.sampling_mask * _stacked(rows, x, (len(x), *self.measurement_shape))

    def _combine(self, y: Tensor) -> Tensor:
        taken = _arrays(self.sampling_mask * y)
        rows = [_adjoint(self._path(z), own, self.image_shape) for z, own in enumerate(taken)]
        shape = len(y), self.measurement_shape[0], *self.image_shape
        return combined(self.sensitivity_maps, _stacked(rows, y, shape))

    def _path(self, z: int) -> NDArray[Any]:
        own: NDArray[Any] = self.trajectory[z if len(self.trajectory) > 1 else 0].cpu().numpy()
        return own


def _transform(path: NDArray[Any], images: NDArray[Any]) -> NDArray[Any]:
    """(coil, y, x) to (coil, readout, sample)."""
    import finufft

    along_y, along_x = _radians(path, images.real.dtype)
    accuracy = _ACCURACY[images.dtype.name]
    y = finufft.nufft2d2(along_y, along_x, images, isign=-1, nthreads=1, **accuracy)
    out: NDArray[Any] = y.reshape(len(images), *path.shape[:2]) / math.sqrt(images[0].size)
    return out


def _adjoint(path: NDArray[Any], y: NDArray[Any], image_shape: tuple[int, int]) -> NDArray[Any]:
    """(coil, readout, sample) to (coil, y, x)."""
    import finufft

    along_y, along_x = _radians(path, y.real.dtype)
    accuracy, samples = _ACCURACY[y.dtype.name], y.reshape(len(y), -1)
    x = finufft.nufft2d1(along_y, along_x, samples, image_shape, isign=1, nthreads=1, **accuracy)
    out: NDArray[Any] = x.reshape(len(y), *image_shape) / math.sqrt(math.prod(image_shape))
    return out


def _radians(path: NDArray[Any], dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Per pixel, along y and x."""
    turned = 2 * np.pi * path.reshape(-1, 2).astype(np.float64)
    return tuple(np.ascontiguousarray(turned[:, axis], dtype=dtype) for axis in (0, 1))  # type: ignore[return-value]


def _arrays(x: Tensor) -> list[NDArray[Any]]:
    """A contiguous one for each slice."""
    return [np.ascontiguousarray(row) for row in x.resolve_conj().cpu().numpy()]


def _stacked(rows: list[NDArray[Any]], like: Tensor, shape: tuple[int, ...]) -> Tensor:
    if not rows:
        return like.new_zeros(shape)
    return torch.from_numpy(np.stack(rows)).to(like.device, like.dtype)
