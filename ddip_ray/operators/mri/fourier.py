"""The centred orthonormal Fourier transform of slices, with origin and zero frequency at size // 2."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.numerics.threads import one_thread

_PLANE = (-2, -1)


def fourier(x: Tensor) -> Tensor:
    """Return the k-space (..., ky, kx) of images (..., y, x)."""
    return _shifted(plain_fourier, x)


def fourier_adjoint(k: Tensor) -> Tensor:
    """Return the images of k-space, by the adjoint and inverse of `fourier`."""
    return _shifted(plain_fourier_adjoint, k)


def plain_fourier(x: Tensor) -> Tensor:
    """Return the transform with origin and zero frequency in the corner, which saves two copies."""
    if x.numel() == 0:  # MKL refuses
        return x
    with one_thread():
        transformed: Tensor = torch.fft.fft2(x, norm="ortho")
    return transformed


def plain_fourier_adjoint(k: Tensor) -> Tensor:
    """Return the adjoint and inverse of `plain_fourier`."""
    if k.numel() == 0:
        return k
    with one_thread():
        transformed: Tensor = torch.fft.ifft2(k, norm="ortho")
    return transformed


def centring(shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return phases q and p, both (y, x), with which p · plain_fourier(q · x) is fourier(x)."""
    along_y, along_x = (_ramp(size) for size in shape)
    q = np.outer(along_y, along_x)
    # (k − c)(n − c) = k n − c n − c k + c²
    constant = np.exp(-2j * np.pi * sum((size // 2) ** 2 / size % 1 for size in shape))
    return (torch.from_numpy(_clean(part)).to(dtype) for part in (q, constant * q))  # type: ignore[return-value]


def _shifted(transform: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    centred: Tensor = torch.fft.fftshift(transform(torch.fft.ifftshift(x, _PLANE)), _PLANE)
    return centred


def _ramp(size: int) -> NDArray[np.complex128]:
    """Return exp(2πi c n/N) with c = N // 2."""
    turns = np.arange(size) * (size // 2) % size / size
    ramp: NDArray[np.complex128] = np.exp(2j * np.pi * turns)
    return ramp


def _clean(values: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return phases without the rounding of π, which for even sizes are exactly 1 and −1."""
    return np.round(values, 15)
