"""Cartesian k-space of one coil or several: ``Sense(sampling_mask, sensitivity_maps)``."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor

from ddip_ray.operators.coil_products import combined, times
from ddip_ray.operators.fourier import centring, plain_fourier, plain_fourier_adjoint
from ddip_ray.operators.inner_product import product
from ddip_ray.operators.linear_function import linear
from ddip_ray.operators.protocol import check_shape


class Sense:
    """k-space samples of the image as each coil sees it: M F S_c x (SENSE, Pruessmann et al. 1999).

    F is orthonormal, so that white noise stays as large as it is; the adjoint is the conjugate transpose.
    Where the mask is 0 a sample was not taken, and is 0. What a slice gives depends on it alone, in every
    bit, on a CPU.

    Args:
        sampling_mask: real 0 or 1, (ky, kx), or (z, ky, kx) of each slice.
        sensitivity_maps: complex, (coil, y, x), or (z, coil, y, x) of each slice. An image's known phase may
            be in them.

    With either of them of each slice the operator is of exactly so many slices; else of any number.

    Raises:
        ValueError: mask and maps that do not fit each other, and at calls a tensor of wrong shape or dtype.
    """

    def __init__(self, sampling_mask: Tensor, sensitivity_maps: Tensor) -> None:
        if sampling_mask.ndim not in (2, 3) or sensitivity_maps.ndim not in (3, 4):
            raise ValueError(
                "Sense: expected sampling_mask ([z,] ky, kx) and sensitivity_maps ([z,] coil, y, x), "
                f"got shapes {tuple(sampling_mask.shape)} and {tuple(sensitivity_maps.shape)}"
            )
        if sampling_mask.shape[-2:] != sensitivity_maps.shape[-2:]:
            raise ValueError(
                f"Sense: a sampling_mask of {tuple(sampling_mask.shape[-2:])} (ky, kx), "
                f"sensitivity_maps of {tuple(sensitivity_maps.shape[-2:])} (y, x)"
            )
        if not sensitivity_maps.is_complex():
            raise ValueError(f"Sense: sensitivity_maps are {sensitivity_maps.dtype}, expected complex")
        self.sensitivity_maps = sensitivity_maps.reshape(-1, *sensitivity_maps.shape[-3:])
        # (z or 1, 1, ky, kx): the same for all coils.
        self.sampling_mask = sampling_mask.reshape(-1, 1, *sampling_mask.shape[-2:]).to(
            sensitivity_maps.real.dtype
        )
        self._own_masks, self._own_maps = sampling_mask.ndim == 3, sensitivity_maps.ndim == 4
        lengths = {len(sampling_mask)} if self._own_masks else set()
        lengths |= {len(sensitivity_maps)} if self._own_maps else set()
        if len(lengths) > 1:
            raise ValueError(f"Sense: sampling_mask and sensitivity_maps of {sorted(lengths)} slices")
        self.num_slices = lengths.pop() if lengths else None
        before, after = centring(self.image_shape, sensitivity_maps.dtype)
        self._maps = product(self.sensitivity_maps, before.to(sensitivity_maps.device))
        self._samples = self.sampling_mask * after.to(sensitivity_maps.device)
        self._samples_adjoint = self._samples.conj().resolve_conj()

    @property
    def image_shape(self) -> tuple[int, int]:
        """(y, x) of a slice."""
        ny, nx = self.sensitivity_maps.shape[-2:]
        return ny, nx

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """(coil, ky, kx) of a slice's k-space."""
        num_coils, ny, nx = self.sensitivity_maps.shape[-3:]
        return num_coils, ny, nx

    def forward(self, x: Tensor) -> Tensor:
        """Samples. ``x: (z, y, x)`` complex to ``(z, coil, ky, kx)``."""
        self._check("forward(x)", x, self.image_shape)
        return linear(x, self._measure, self._combine)

    def adjoint(self, y: Tensor) -> Tensor:
        """Conjugate transpose of ``forward``. ``y: (z, coil, ky, kx)`` to ``(z, y, x)``."""
        self._check("adjoint(y)", y, self.measurement_shape)
        return linear(y, self._combine, self._measure)

    def of_slices(self, rows: Sequence[int]) -> Sense:
        """The operator of some of its slices; itself where slices are alike."""
        if self.num_slices is None:
            return self
        other, chosen = copy.copy(self), list(rows)
        other.num_slices = len(chosen)
        if self._own_masks:
            other.sampling_mask, other._samples = self.sampling_mask[chosen], self._samples[chosen]
            other._samples_adjoint = self._samples_adjoint[chosen]
        if self._own_maps:
            other.sensitivity_maps, other._maps = self.sensitivity_maps[chosen], self._maps[chosen]
        return other

    def __repr__(self) -> str:
        slices = "" if self.num_slices is None else f", num_slices={self.num_slices}"
        return f"Sense(image_shape={self.image_shape}, num_coils={self.measurement_shape[0]}{slices})"

    def _measure(self, x: Tensor) -> Tensor:
        return times(self._samples, plain_fourier(times(self._maps, x[:, None])))

    def _combine(self, y: Tensor) -> Tensor:
        return combined(self._maps, plain_fourier_adjoint(times(self._samples_adjoint, y)))

    def _check(self, method: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
        name = f"Sense.{method}"
        check_shape(name, tensor.shape, expected)
        if tensor.dtype != self.sensitivity_maps.dtype:
            raise ValueError(f"{name}: expected dtype {self.sensitivity_maps.dtype}, got {tensor.dtype}")
        if self.num_slices is not None and len(tensor) != self.num_slices:
            raise ValueError(f"{name}: expected {self.num_slices} slices, got {len(tensor)}")
