"""The centred orthonormal Fourier transform of slices, and complex products that round alike everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

_PLANE = (-2, -1)


def fourier(x: Tensor) -> Tensor:
    """Image to k-space, ``(..., y, x)`` to ``(..., ky, kx)``; origin and zero frequency lie at size // 2."""
    if x.numel() == 0:  # MKL refuses
        return x
    centred: Tensor = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, _PLANE), norm="ortho"), _PLANE)
    return centred


def fourier_adjoint(k: Tensor) -> Tensor:
    """Adjoint and inverse of `fourier`."""
    if k.numel() == 0:
        return k
    centred: Tensor = torch.fft.fftshift(
        torch.fft.ifft2(torch.fft.ifftshift(k, _PLANE), norm="ortho"), _PLANE
    )
    return centred


def product(a: Tensor, b: Tensor) -> Tensor:
    """a · b of complex tensors, by real products.

    A complex multiplication may round differently in the remainder of a vector loop, and so a slice with
    its place among others.
    """
    (ar, ai), (br, bi) = _parts(a), _parts(b)
    return torch.complex(ar * br - ai * bi, ar * bi + ai * br)


def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.resolve_conj()
    return x.real, x.imag
