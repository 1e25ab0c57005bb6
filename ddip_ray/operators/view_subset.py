"""An operator of which every slice keeps some views only: what splitting the measurements needs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddip_ray.operators.protocol import LinearOperator


@dataclass(frozen=True)
class ViewSubset:
    """``operator`` with the views outside ``keep`` reading zero.

    ``keep`` is (z, view, 1), 1 where a slice keeps a view and 0 elsewhere; ``forward`` and
    ``adjoint`` take exactly these slices.
    """

    operator: LinearOperator
    keep: Tensor

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.operator.image_shape

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return self.operator.measurement_shape

    def forward(self, x: Tensor) -> Tensor:
        return self.keep * self.operator.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(self.keep * y)
