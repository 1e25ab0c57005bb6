"""The base class of all forward operators: two methods to write, everything else supplied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, overload

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.numerics.autograd import linear_function
from ddip_ray.numerics.operator_norm import operator_norm

if TYPE_CHECKING:
    from ddip_ray.operators.coarse_scan import CoarseScan


class LinearOperator(ABC):
    """A linear map A from slices to their measurements, with its exact adjoint Aᴴ.

    A subclass calls ``super().__init__`` with its shapes and writes `_forward` and `_adjoint`. The base
    checks shape, dtype and device at every call and makes both maps differentiable: the gradient of one is
    the other, whatever happens inside.

    Slices are the leading axis of every tensor and independent of each other. An operator accepts any number
    of slices, unless each of them has, say, a mask of its own; then it accepts exactly ``num_slices``.
    ``_adjoint`` must be the conjugate transpose of ``_forward`` to float precision, because CG, ADMM and the
    gradients of adaptation rely on it: `ddip_ray.testing.OperatorContract` tests this and more.

    Three further questions are asked by some methods only: `hold_out`, `coarse_scan` and `direct_inverse`.
    An operator that cannot answer them still works with all other methods.

    Args:
        image_shape: shape of one slice, ``(y, x)``.
        measurement_shape: shape of one slice's measurements, for example ``(view, detector)``.
        dtype: dtype of images and measurements.
        device: device of images and measurements.
        num_slices: number of slices that the operator is made for; None if slices are alike and any number
            is accepted.

    Attributes:
        direct_method: name of the method that `direct_inverse` is, for messages; None if there is none.
    """

    direct_method: ClassVar[str | None] = None

    def __init__(
        self,
        image_shape: Sequence[int],
        measurement_shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        num_slices: int | None = None,
    ) -> None:
        self.image_shape = tuple(int(size) for size in image_shape)
        self.measurement_shape = tuple(int(size) for size in measurement_shape)
        self.dtype = dtype
        self.device = torch.device(device)
        self.num_slices = num_slices
        self._norm: float | None = None

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """Return A x: ``(z, *image_shape)`` to ``(z, *measurement_shape)``; ``x`` is checked, detached."""

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """Return Aᴴ y: ``(z, *measurement_shape)`` to ``(z, *image_shape)``; ``y`` is checked, detached."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the measurements A x.

        Args:
            x: images, ``(z, *image_shape)``.

        Returns:
            Measurements, ``(z, *measurement_shape)``; differentiable.

        Raises:
            ValueError: wrong shape, dtype, device or number of slices.
        """
        self._check("forward(x)", x, self.image_shape)
        return linear_function(x, self._forward, self._adjoint)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return Aᴴ y, the conjugate transpose of `forward`.

        Args:
            y: measurements, ``(z, *measurement_shape)``.

        Returns:
            Images, ``(z, *image_shape)``; differentiable.

        Raises:
            ValueError: wrong shape, dtype, device or number of slices.
        """
        self._check("adjoint(y)", y, self.measurement_shape)
        return linear_function(y, self._adjoint, self._forward)

    def __call__(self, x: Tensor) -> Tensor:
        """Return A x, the same as `forward`."""
        return self.forward(x)

    @property
    def H(self) -> LinearOperator:
        """The operator Aᴴ, whose forward is the adjoint of this one."""
        return Adjoint(self)

    @property
    def gram(self) -> LinearOperator:
        """The operator AᴴA of the normal equations; ``A.gram(x)`` is ``A.adjoint(A.forward(x))``."""
        return Gram(self)

    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...

    def __matmul__(self, other: LinearOperator | Tensor) -> LinearOperator | Tensor:
        """Return the composition ``A @ B`` with an operator, or A x for a tensor x."""
        return self.forward(other) if isinstance(other, Tensor) else Composition(self, other)

    def norm(self) -> float:
        """Return ‖A‖₂, the largest singular value, estimated by power iteration once for each operator."""
        if self._norm is None:
            self._norm = self._find_norm()
        return self._norm

    def of_slices(self, rows: Sequence[int]) -> LinearOperator:
        """Return the operator of the slices ``rows``; itself where slices are alike."""
        if self.num_slices is not None:
            raise self._unsupported("of_slices", "its slices differ, and it cannot take some of them")
        return self

    def hold_out(self, share: float, seed: int) -> Tensor:
        """Return which measurements of a slice are kept if a share of them is held out for validation.

        Args:
            share: share of the measurements to hold out, at least one of them.
            seed: number that chooses which.

        Returns:
            Mask that is 0 for held-out measurements and 1 for all others; real, with the axes of
            ``measurement_shape``, broadcastable to it.

        Raises:
            InputError: the operator does not say which of its measurements may be held out, or none may.
        """
        raise self._unsupported("hold_out", "it does not say which measurements can be held out")

    def coarse_scan(self, downsampling: int) -> CoarseScan:
        """Return the scan of an image with larger pixels that is as undersampled as this one.

        Args:
            downsampling: side of the larger pixels in pixels.

        Raises:
            InputError: the operator has no such scan, or too few pixels or measurements for it.
        """
        raise self._unsupported("coarse_scan", "it has no scan of larger pixels")

    def direct_inverse(self, y: Tensor, filter_name: str | None = None) -> Tensor:
        """Return an image computed from measurements in one step, such as filtered back-projection.

        Args:
            y: measurements, ``(z, *measurement_shape)``.
            filter_name: window on the filter of operators that filter, None: the sharpest; other operators
                take None only.

        Returns:
            Images, ``(z, *image_shape)``; not differentiable.

        Raises:
            InputError: the operator has no direct inverse.
        """
        raise self._unsupported("direct_inverse", "it has no direct inverse")

    @property
    def name(self) -> str:
        """Name of the operator in messages."""
        return type(self).__name__

    def __repr__(self) -> str:
        """Return name, shapes and, where slices differ, their number."""
        slices = "" if self.num_slices is None else f", num_slices={self.num_slices}"
        shapes = f"image_shape={self.image_shape}, measurement_shape={self.measurement_shape}"
        return f"{self.name}({shapes}{slices})"

    def _find_norm(self) -> float:
        # One slice where slices are alike; else the largest norm among them.
        shape = (1 if self.num_slices is None else self.num_slices, *self.image_shape)
        return operator_norm(self.gram, shape, dtype=self.dtype, device=self.device)

    def _check(self, method: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
        name = f"{self.name}.{method}"
        check_shape(name, tensor.shape, expected)
        if tensor.dtype != self.dtype:
            raise ValueError(f"{name}: expected dtype {self.dtype}, got {tensor.dtype}")
        if tensor.device.type != self.device.type:
            raise ValueError(f"{name}: expected a tensor on {self.device}, got {tensor.device}")
        if self.num_slices is not None and len(tensor) != self.num_slices:
            raise ValueError(f"{name}: expected {self.num_slices} slices, got {len(tensor)}")

    def _unsupported(self, method: str, reason: str) -> InputError:
        return InputError(
            f"{self.name}.{method}: {reason}", "Choose a method or setting that does not need it"
        )


class Adjoint(LinearOperator):
    """Aᴴ as an operator of its own: ``Adjoint(A).forward`` is ``A.adjoint``."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(
            operator.measurement_shape,
            operator.image_shape,
            dtype=operator.dtype,
            device=operator.device,
            num_slices=operator.num_slices,
        )
        self.operator = operator

    @property
    def H(self) -> LinearOperator:
        """A itself."""
        return self.operator

    @property
    def name(self) -> str:
        """Name of A, and ``.H``."""
        return f"{self.operator.name}.H"

    def of_slices(self, rows: Sequence[int]) -> LinearOperator:
        """Return the adjoint for the slices ``rows``."""
        return Adjoint(self.operator.of_slices(rows))

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator._adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._forward(y)

    def _find_norm(self) -> float:
        return self.operator.norm()  # ‖Aᴴ‖ = ‖A‖


class Composition(LinearOperator):
    """A B, which applies B first: ``(A @ B)(x)`` is ``A(B(x))``.

    Args:
        outer: A.
        inner: B, whose measurements are A's images.

    Raises:
        ValueError: shapes, dtypes or numbers of slices that do not fit.
    """

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        numbers = {A.num_slices for A in (outer, inner) if A.num_slices is not None}
        if inner.measurement_shape != outer.image_shape or inner.dtype != outer.dtype or len(numbers) > 1:
            raise ValueError(
                f"{outer.name} @ {inner.name}: the first takes {outer.num_slices or 'any'} slices of shape "
                f"{outer.image_shape}, {outer.dtype}; the second gives {inner.num_slices or 'any'} of shape "
                f"{inner.measurement_shape}, {inner.dtype}"
            )
        super().__init__(
            inner.image_shape,
            outer.measurement_shape,
            dtype=inner.dtype,
            device=inner.device,
            num_slices=numbers.pop() if numbers else None,
        )
        self.outer, self.inner = outer, inner

    @property
    def name(self) -> str:
        """Names of both operators."""
        return f"({self.outer.name} @ {self.inner.name})"

    def of_slices(self, rows: Sequence[int]) -> LinearOperator:
        """Return the composition for the slices ``rows``."""
        return Composition(self.outer.of_slices(rows), self.inner.of_slices(rows))

    # (A B) x = A (B x)
    def _forward(self, x: Tensor) -> Tensor:
        return self.outer._forward(self.inner._forward(x))

    # (A B)ᴴ = Bᴴ Aᴴ
    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._adjoint(y))


class Gram(Composition):
    """AᴴA, which is its own adjoint."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(Adjoint(operator), operator)

    @property
    def H(self) -> LinearOperator:
        """The operator itself."""
        return self

    @property
    def name(self) -> str:
        """Name of A, and ``.gram``."""
        return f"{self.inner.name}.gram"

    def of_slices(self, rows: Sequence[int]) -> LinearOperator:
        """Return AᴴA for the slices ``rows``."""
        return Gram(self.inner.of_slices(rows))

    def _find_norm(self) -> float:
        return self.inner.norm() ** 2  # ‖AᴴA‖ = ‖A‖²


def check_shape(name: str, got: Sequence[int], expected: Sequence[int]) -> None:
    """Raise ValueError unless ``got`` is ``(z, *expected)`` for some z.

    Args:
        name: name of the operator and argument in the message, for example "ParallelBeam.forward(x)".
        got: shape of the tensor.
        expected: shape of one slice.
    """
    if len(got) != len(expected) + 1 or tuple(got[1:]) != tuple(expected):
        wanted = ", ".join(["z", *map(str, expected)])
        raise ValueError(f"{name}: expected shape ({wanted}), got {tuple(got)}")
