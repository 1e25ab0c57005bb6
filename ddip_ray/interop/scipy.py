"""SciPy's linear operators in and out: ``scipy.sparse.linalg.LinearOperator``, sparse and dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddip_ray.operators.base import LinearOperator


class ScipyOperator(LinearOperator):
    """A SciPy operator, or a matrix, that maps a flattened slice to its flattened measurements.

    Args:
        operator: a ``scipy.sparse.linalg.LinearOperator``, or a dense or sparse matrix, of shape
            (measurements, pixels).
        image_shape: (y, x) of a slice, in C order in the vector.
        measurement_shape: shape of a slice's measurements, likewise; None is a vector.

    Raises:
        ValueError: shapes that do not fit the operator's.
    """

    def __init__(
        self,
        operator: Any,
        image_shape: tuple[int, ...],
        measurement_shape: tuple[int, ...] | None = None,
    ) -> None:
        from scipy.sparse.linalg import aslinearoperator

        self.matrix = aslinearoperator(operator)
        shape = measurement_shape or (self.matrix.shape[0],)
        if self.matrix.shape != (np.prod(shape), np.prod(image_shape)):
            raise ValueError(
                f"ScipyOperator: the operator has shape {self.matrix.shape}, expected (measurements, pixels) "
                f"= ({np.prod(shape)}, {np.prod(image_shape)})"
            )
        is_complex = np.issubdtype(self.matrix.dtype, np.complexfloating)
        super().__init__(image_shape, shape, dtype=torch.complex64 if is_complex else torch.float32)

    def _forward(self, x: Tensor) -> Tensor:
        return self._applied(self.matrix.matmat, x, self.measurement_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._applied(self.matrix.rmatmat, y, self.image_shape)

    def _applied(self, multiply: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        product = np.asarray(multiply(x.reshape(len(x), -1).numpy().T)).T
        return torch.from_numpy(np.ascontiguousarray(product)).to(self.dtype).reshape(len(x), *shape)


def as_scipy(A: LinearOperator) -> Any:
    """``A`` of one slice as a ``scipy.sparse.linalg.LinearOperator`` on flattened arrays."""
    from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator

    def applied(vector: Any, apply: Any, shape: tuple[int, ...]) -> Any:
        return apply(torch.as_tensor(vector, dtype=A.dtype).reshape(1, *shape)).numpy().ravel()

    return ScipyLinearOperator(
        shape=(int(np.prod(A.measurement_shape)), int(np.prod(A.image_shape))),
        matvec=lambda x: applied(x, A.forward, A.image_shape),
        rmatvec=lambda y: applied(y, A.adjoint, A.measurement_shape),
        dtype=np.complex64 if A.dtype.is_complex else np.float32,
    )
