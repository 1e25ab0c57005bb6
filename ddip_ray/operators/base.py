"""The one contract between physics and solvers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class LinearOperator(Protocol):
    """A linear map from slices to their measurements, with its exact adjoint.

    Slices are the leading axis of everything. ``forward`` and ``adjoint`` treat them
    independently, accept any number of them, and are differentiable.
    ``adjoint`` is the transpose (conjugate transpose when complex) of ``forward`` to
    float precision: CG, ADMM and the adaptation gradient all rely on it. An operator that knows its
    slices (each has a mask of its own, say) takes exactly those.

    Attributes:
        image_shape: shape of one slice, ``(y, x)``.
        measurement_shape: shape of one slice's measurements, e.g. ``(view, detector)``.
    """

    @property
    def image_shape(self) -> tuple[int, ...]: ...

    @property
    def measurement_shape(self) -> tuple[int, ...]: ...

    def forward(self, x: Tensor) -> Tensor:
        """Measure: ``x: (z, *image_shape)`` to ``(z, *measurement_shape)``."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """Transpose of forward: ``y: (z, *measurement_shape)`` to ``(z, *image_shape)``."""
        ...

    def of_slices(self, rows: Sequence[int]) -> LinearOperator:
        """The operator of some of its slices; itself where slices are alike."""
        ...


def gram(operator: LinearOperator, x: Tensor) -> Tensor:
    """AᴴA x, the operator of the normal equations. ``x: (z, *image_shape)``, same shape out."""
    return operator.adjoint(operator.forward(x))


def check_shape(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ValueError unless ``got`` is ``(z, *expected)`` for some z.

    Args:
        name: what to call the operator and argument in the message, e.g. "ParallelBeam.forward(x)".
    """
    if len(got) != len(expected) + 1 or tuple(got[1:]) != tuple(expected):
        wanted = ", ".join(["z", *map(str, expected)])
        raise ValueError(f"{name}: expected shape ({wanted}), got {tuple(got)}")
