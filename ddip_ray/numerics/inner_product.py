"""Inner products and products of slices, whose bits depend on the slice alone.

``torch.sum`` picks its order of summation by shape, strides and threads, so the same slice can give
another last bit in another batch. Here sums are made of elementwise operations in a fixed order.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ddip_ray.numerics import dot_kernel


def slice_dot(a: Tensor, b: Tensor) -> Tensor:
    """Return ⟨a, b⟩ = Σ conj(a) b of each slice, ``(z, ...)`` to ``(z,)``; differentiable, any strides."""
    return cast(Tensor, _SliceDot.apply(a, b))  # type: ignore[no-untyped-call]


def slice_dot_real(a: Tensor, b: Tensor) -> Tensor:
    """Return Re ⟨a, b⟩ of each slice, ``(z, ...)`` to real ``(z,)``, with half the work of `slice_dot`."""
    return slice_dot(_interleaved(a), _interleaved(b)) if a.is_complex() else slice_dot(a, b)


def slice_norm(x: Tensor) -> Tensor:
    """Return ‖x‖₂ of each slice, ``(z, ...)`` to real ``(z,)``."""
    return slice_dot_real(x, x).sqrt()


def squared_modulus(x: Tensor) -> Tensor:
    """Return |x|² of each entry, real."""
    return torch.view_as_real(x).square().sum(-1) if x.is_complex() else x * x


def modulus(x: Tensor) -> Tensor:
    """Return |x| of each entry; ``abs`` of complex ones may round differently at the end of a vector loop."""
    return squared_modulus(x).sqrt() if x.is_complex() else x.abs()


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a · b of complex tensors by real products, whose rounding does not depend on the batch."""
    (ar, ai), (br, bi) = _parts(a), _parts(b)
    return torch.complex(ar * br - ai * bi, ar * bi + ai * br)


def slice_scale(scalar: Tensor, x: Tensor) -> Tensor:
    """Return ``scalar · x`` with one real number for each slice, ``(z,)``, or one for all; ``x: (z, ...)``.

    It is the product that ``*`` gives, but its gradient is summed by `slice_dot`.
    """
    return cast(Tensor, _SliceScale.apply(scalar, x))  # type: ignore[no-untyped-call]


class _SliceDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        if not a.is_complex():
            return _real_dot(a, b)
        # Separate real products: a complex multiplication may round differently in the
        # remainder of a vector loop.
        a_real, a_imag, b_real, b_imag = *_parts(a), *_parts(b)
        real = _real_dot(a_real, b_real) + _real_dot(a_imag, b_imag)
        imag = _real_dot(a_real, b_imag) - _real_dot(a_imag, b_real)
        return torch.complex(real, imag)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        scalar = grads[0].reshape(-1, *[1] * (a.ndim - 1))
        return scalar.conj() * b, scalar * a


class _SliceScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scalar: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(scalar, x)
        return _scaled(scalar, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        scalar, x = ctx.saved_tensors
        per_slice = slice_dot(x, grads[0]).real
        if scalar.numel() == 1:
            per_slice = _fold(per_slice[None])
        return per_slice.reshape(scalar.shape), slice_scale(scalar, grads[0])


def _scaled(scalar: Tensor, x: Tensor) -> Tensor:
    return scalar.reshape(-1, *[1] * (x.ndim - 1)) * x


def _interleaved(x: Tensor) -> Tensor:
    """Return complex (z, ..., y, x) as real (z, ... y, 2 x)."""
    parts = torch.view_as_real(x.resolve_conj()).flatten(-2)
    return parts.flatten(1, -2) if parts.ndim > 3 else parts


def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.resolve_conj()
    return x.real, x.imag


def _real_dot(a: Tensor, b: Tensor) -> Tensor:
    # The path is chosen by kind of tensor, never by size or layout: it may show in the last bit.
    if a.device.type == "cpu" and a.ndim == 3 and a.dtype in (torch.float32, torch.float64):
        a, b = a.detach().resolve_neg(), b.detach().resolve_neg()
        return torch.from_numpy(dot_kernel.dot(a.numpy(), b.numpy(), torch.get_num_threads())).to(a.dtype)
    return _fold(a * b)


def _fold(terms: Tensor) -> Tensor:
    """Return the sum over all axes but the first, by adding halves of each axis until one entry is left."""
    for axis in range(1, terms.ndim):
        while terms.shape[axis] > 1:
            half = terms.shape[axis] // 2
            total = terms.narrow(axis, 0, half) + terms.narrow(axis, half, half)
            if terms.shape[axis] % 2:
                total = torch.cat([total, terms.narrow(axis, 2 * half, 1)], axis)
            terms = total
    return terms.reshape(terms.shape[0]) if terms.numel() else terms.new_zeros(terms.shape[0])
