"""An operator of which each slice keeps only some measurements."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ddip_ray.operators.base import LinearOperator, check_shape


class Masked:
    """M A for a fixed set of slices; ``mask`` (z, *measurement), broadcastable, is 0 where M drops an entry.

    Implements `LinearOperator` for exactly as many slices as the mask has.
    """

    def __init__(self, operator: LinearOperator, mask: Tensor) -> None:
        self.operator, self.mask = operator, mask

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.operator.image_shape

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return self.operator.measurement_shape

    def of_slices(self, rows: Sequence[int]) -> Masked:
        """The operator of some of its slices."""
        return Masked(self.operator.of_slices(rows), self.mask[list(rows)])

    def forward(self, x: Tensor) -> Tensor:
        check_shape("Masked.forward(x)", tuple(x.shape), self.image_shape)
        return self.mask * self.operator.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        check_shape("Masked.adjoint(y)", tuple(y.shape), self.measurement_shape)
        return self.operator.adjoint(self.mask * y)
