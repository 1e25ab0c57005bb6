"""An operator some of whose measurements are left out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ddip_ray.operators.base import LinearOperator


class Masked(LinearOperator):
    """M A, where M sets measurements to zero.

    Its norm is that of A, an upper bound, so that weights relative to the norm do not change by masking.

    Args:
        operator: A.
        mask: real, 0 where M drops a measurement and 1 elsewhere; ``(*measurement_shape)`` or, with a mask
            for each slice, ``(z, *measurement_shape)``, broadcastable to them. With a mask for each slice the
            operator accepts exactly these slices.
    """

    def __init__(self, operator: LinearOperator, mask: Tensor) -> None:
        has_slices = mask.ndim > len(operator.measurement_shape)
        super().__init__(
            operator.image_shape,
            operator.measurement_shape,
            dtype=operator.dtype,
            device=operator.device,
            num_slices=len(mask) if has_slices else operator.num_slices,
        )
        self.operator, self.mask = operator, mask if has_slices else mask[None]

    def of_slices(self, rows: Sequence[int]) -> Masked:
        """Return the operator of the slices ``rows``."""
        mask = self.mask[list(rows)] if len(self.mask) == self.num_slices else self.mask[0]
        return Masked(self.operator.of_slices(rows), mask)

    def _forward(self, x: Tensor) -> Tensor:
        return self.mask * self.operator._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._adjoint(self.mask * y)

    def _find_norm(self) -> float:
        return self.operator.norm()
