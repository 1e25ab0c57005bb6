"""What MRI operators have in common: coils, slices with a mask or maps of their own, checks of shape."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from torch import Tensor

from ddip_ray.numerics.autograd import linear
from ddip_ray.operators.base import check_shape


class MultiCoil(ABC):
    """A `LinearOperator` by how samples are taken, ``_measure``, and the adjoint of that, ``_combine``.

    Tensors it holds have a slice for each of its own, or one for all.

    Args:
        sensitivity_maps: complex, (coil, y, x), or (z, coil, y, x) of each slice.
        sampling_mask: real 0 or 1, with the two axes of a coil's samples last, for all slices or each.
        num_sampled: of how many slices it says where samples lie, in ``sampled``; None: alike for all.
        sampled: name of what says it, for errors.

    Raises:
        ValueError: maps that are not complex, or of another number of slices.
    """

    def __init__(
        self, sensitivity_maps: Tensor, sampling_mask: Tensor, num_sampled: int | None, sampled: str
    ) -> None:
        name = type(self).__name__
        if not sensitivity_maps.is_complex():
            raise ValueError(f"{name}: sensitivity_maps are {sensitivity_maps.dtype}, expected complex")
        num_maps = len(sensitivity_maps) if sensitivity_maps.ndim == 4 else None
        lengths = {length for length in (num_sampled, num_maps) if length is not None}
        if len(lengths) > 1:
            raise ValueError(f"{name}: {sampled} and sensitivity_maps of {sorted(lengths)} slices")
        self.num_slices = lengths.pop() if lengths else None
        # (z or 1, coil, y, x)
        self.sensitivity_maps = sensitivity_maps.reshape(-1, *sensitivity_maps.shape[-3:])
        # (z or 1, 1, …): the same for all coils.
        mask = sampling_mask.reshape(-1, 1, *sampling_mask.shape[-2:])
        self.sampling_mask = mask.to(sensitivity_maps.device, sensitivity_maps.real.dtype)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(y, x) of a slice."""
        ny, nx = self.sensitivity_maps.shape[-2:]
        return ny, nx

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """(coil, ky, kx) of a slice's k-space, or (coil, readout, sample)."""
        return self.sensitivity_maps.shape[-3], *self.sampling_mask.shape[-2:]

    def forward(self, x: Tensor) -> Tensor:
        """Samples. ``x: (z, y, x)`` complex to ``(z, *measurement_shape)``."""
        self._check("forward(x)", x, self.image_shape)
        return linear(x, self._measure, self._combine)

    def adjoint(self, y: Tensor) -> Tensor:
        """Conjugate transpose of ``forward``. ``y: (z, *measurement_shape)`` to ``(z, y, x)``."""
        self._check("adjoint(y)", y, self.measurement_shape)
        return linear(y, self._combine, self._measure)

    def of_slices(self, rows: Sequence[int]) -> Self:
        """The operator of some of its slices; itself where slices are alike."""
        if self.num_slices is None:
            return self
        other, chosen = copy.copy(self), list(rows)
        other.num_slices = len(chosen)
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and len(value) == self.num_slices:
                setattr(other, name, value[chosen])
        return other

    def __repr__(self) -> str:
        slices = "" if self.num_slices is None else f", num_slices={self.num_slices}"
        shapes = f"image_shape={self.image_shape}, measurement_shape={self.measurement_shape}"
        return f"{type(self).__name__}({shapes}{slices})"

    @abstractmethod
    def _measure(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _combine(self, y: Tensor) -> Tensor: ...

    def _check(self, method: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
        name = f"{type(self).__name__}.{method}"
        check_shape(name, tensor.shape, expected)
        if tensor.dtype != self.sensitivity_maps.dtype:
            raise ValueError(f"{name}: expected dtype {self.sensitivity_maps.dtype}, got {tensor.dtype}")
        if self.num_slices is not None and len(tensor) != self.num_slices:
            raise ValueError(f"{name}: expected {self.num_slices} slices, got {len(tensor)}")
