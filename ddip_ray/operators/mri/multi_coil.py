"""The base class of MRI operators: coils, and slices with a mask or maps of their own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from ddip_ray.operators.base import LinearOperator

_NORMALISED = 1e-3  # largest deviation from 1 of the sum of squares of maps that are normalised


class MultiCoil(LinearOperator):
    """An MRI operator, which measures samples of the image as each coil sees it.

    Subclasses say how samples are taken. Tensors it holds have a row for each slice, or one for all.

    Args:
        sensitivity_maps: complex, (coil, y, x), or (z, coil, y, x) with maps for each slice.
        sampling_mask: real, 1 where a sample is taken and 0 elsewhere, for all slices or each; its last two
            axes are those of one coil's samples.
        num_sampled: number of slices in the tensor that says where samples lie; None if it is for all slices.
        sampled: name of this tensor in messages.

    Raises:
        ValueError: maps that are not complex, or for another number of slices.
    """

    direct_method: ClassVar[str | None] = "zero-filled"

    def __init__(
        self, sensitivity_maps: Tensor, sampling_mask: Tensor, num_sampled: int | None, sampled: str
    ) -> None:
        if not sensitivity_maps.is_complex():
            raise ValueError(f"{self.name}: sensitivity_maps are {sensitivity_maps.dtype}, expected complex")
        num_maps = len(sensitivity_maps) if sensitivity_maps.ndim == 4 else None
        lengths = {length for length in (num_sampled, num_maps) if length is not None}
        if len(lengths) > 1:
            raise ValueError(f"{self.name}: {sampled} and sensitivity_maps of {sorted(lengths)} slices")
        super().__init__(
            sensitivity_maps.shape[-2:],
            (sensitivity_maps.shape[-3], *sampling_mask.shape[-2:]),
            dtype=sensitivity_maps.dtype,
            device=sensitivity_maps.device,
            num_slices=lengths.pop() if lengths else None,
        )
        # (z or 1, coil, y, x)
        self.sensitivity_maps = sensitivity_maps.reshape(-1, *sensitivity_maps.shape[-3:])
        # (z or 1, 1, …): the same for all coils.
        mask = sampling_mask.reshape(-1, 1, *sampling_mask.shape[-2:])
        self.sampling_mask = mask.to(sensitivity_maps.device, sensitivity_maps.real.dtype)

    def of_slices(self, rows: Sequence[int]) -> Self:
        """Return the operator of the slices ``rows``; itself where slices are alike."""
        if self.num_slices is None:
            return self
        other, chosen = copy.copy(self), list(rows)
        other.num_slices, other._norm = len(chosen), None
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and len(value) == self.num_slices:
                setattr(other, name, value[chosen])
        return other

    def _maps_are_normalised(self) -> bool:
        """Return whether the squares of the maps sum to 1 at every pixel that a coil sees."""
        total = self.sensitivity_maps.abs().square().sum(1)
        seen = total[total > 0]
        return bool(((seen - 1).abs() < _NORMALISED).all()) and len(seen) > 0

    def _require_same_slices(self, method: str) -> None:
        if self.num_slices not in (None, 1):
            raise ValueError(
                f"{self.name}.{method}: expected one mask or trajectory and one set of maps for all slices"
            )

    def _refuse_filter(self, filter_name: str | None) -> None:
        if filter_name is not None:
            raise ValueError(f"{self.name}.direct_inverse: filter_name is {filter_name!r}, expected None")

    def _full_field_of_view(self) -> Tensor:
        return torch.ones(self.image_shape, device=self.device)
