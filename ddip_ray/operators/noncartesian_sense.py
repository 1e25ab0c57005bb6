"""k-space along any trajectory, of one coil or several, by a non-uniform FFT (finufft, an extra)."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.operators.coil_products import combined, times
from ddip_ray.operators.linear_function import linear
from ddip_ray.operators.protocol import check_shape

# Relative accuracy of the transform, which its adjoint shares to rounding, and oversampling of the grid
# behind it: 1.25 is four times faster than 2.
_ACCURACY = {"complex64": {"eps": 3e-5, "upsampfac": 1.25}, "complex128": {"eps": 1e-13, "upsampfac": 2.0}}


def why_no_nufft() -> str | None:
    """What stands in its way."""
    if importlib.util.find_spec("finufft") is None:
        return "non-Cartesian k-space needs finufft: pip install 'ddip-ray[nufft]'"
    return None


class NonCartesianSense:
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
        if not sensitivity_maps.is_complex():
            raise ValueError(f"NonCartesianSense: sensitivity_maps are {sensitivity_maps.dtype}, not complex")
        mask = torch.ones(trajectory.shape[:-1]) if sampling_mask is None else sampling_mask
        if mask.shape != trajectory.shape[:-1]:
            raise ValueError(
                f"NonCartesianSense: sampling_mask of {tuple(mask.shape)}, trajectory of "
                f"{tuple(trajectory.shape)}"
            )
        self._own_paths, self._own_maps = trajectory.ndim == 4, sensitivity_maps.ndim == 4
        lengths = {len(trajectory)} if self._own_paths else set()
        lengths |= {len(sensitivity_maps)} if self._own_maps else set()
        if len(lengths) > 1:
            raise ValueError(
                f"NonCartesianSense: trajectory and sensitivity_maps of {sorted(lengths)} slices"
            )
        self.num_slices = lengths.pop() if lengths else None
        self.trajectory = trajectory.reshape(-1, *trajectory.shape[-3:])
        self.sensitivity_maps = sensitivity_maps.reshape(-1, *sensitivity_maps.shape[-3:])
        real = sensitivity_maps.real.dtype
        # (z or 1, 1, readout, sample): the same for all coils.
        self.sampling_mask = mask.reshape(-1, 1, *mask.shape[-2:]).to(sensitivity_maps.device, real)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(y, x) of a slice."""
        ny, nx = self.sensitivity_maps.shape[-2:]
        return ny, nx

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """(coil, readout, sample) of a slice's k-space."""
        num_readouts, num_samples = self.trajectory.shape[-3:-1]
        return self.sensitivity_maps.shape[-3], num_readouts, num_samples

    def forward(self, x: Tensor) -> Tensor:
        """Samples. ``x: (z, y, x)`` complex to ``(z, coil, readout, sample)``."""
        self._check("forward(x)", x, self.image_shape)
        return linear(x, self._measure, self._combine)

    def adjoint(self, y: Tensor) -> Tensor:
        """Conjugate transpose of ``forward``. ``y: (z, coil, readout, sample)`` to ``(z, y, x)``."""
        self._check("adjoint(y)", y, self.measurement_shape)
        return linear(y, self._combine, self._measure)

    def of_slices(self, rows: Sequence[int]) -> NonCartesianSense:
        """The operator of some of its slices; itself where slices are alike."""
        if self.num_slices is None:
            return self
        other, chosen = copy.copy(self), list(rows)
        other.num_slices = len(chosen)
        if self._own_paths:
            other.trajectory, other.sampling_mask = self.trajectory[chosen], self.sampling_mask[chosen]
        if self._own_maps:
            other.sensitivity_maps = self.sensitivity_maps[chosen]
        return other

    def __repr__(self) -> str:
        slices = "" if self.num_slices is None else f", num_slices={self.num_slices}"
        shape = f"image_shape={self.image_shape}, measurement_shape={self.measurement_shape}"
        return f"NonCartesianSense({shape}{slices})"

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
        own: NDArray[Any] = self.trajectory[z if self._own_paths else 0].cpu().numpy()
        return own

    def _check(self, method: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
        name = f"NonCartesianSense.{method}"
        check_shape(name, tensor.shape, expected)
        if tensor.dtype != self.sensitivity_maps.dtype:
            raise ValueError(f"{name}: expected dtype {self.sensitivity_maps.dtype}, got {tensor.dtype}")
        if self.num_slices is not None and len(tensor) != self.num_slices:
            raise ValueError(f"{name}: expected {self.num_slices} slices, got {len(tensor)}")


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
