"""The tests that every linear operator must pass: inherit `OperatorContract` and say how to make one.

class TestMyOperator(OperatorContract):
    dtype = torch.float64

    @pytest.fixture
    def operator(self) -> LinearOperator:
        return MyOperator(image_shape=(6, 5))
"""

from __future__ import annotations

import copy
import math
import pickle
import re

import pytest
import torch
from torch import Tensor

from ddip_ray.operators import LinearOperator


def randn(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Return unit normal noise, the same for the same ``seed``."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inner(a: Tensor, b: Tensor) -> complex:
    """Return ⟨a, b⟩ = Σ conj(a) b in double precision."""
    wide = torch.complex128 if a.is_complex() else torch.float64
    return complex(torch.vdot(a.to(wide).flatten(), b.to(wide).flatten()))


def assert_adjoint(operator: LinearOperator, dtype: torch.dtype, tol: float, num_slices: int = 2) -> None:
    """Assert ⟨A x, y⟩ = ⟨x, Aᴴ y⟩ for random x and y.

    Args:
        operator: A.
        dtype: dtype of images and measurements.
        tol: largest difference allowed, relative to ‖A x‖ ‖y‖.
        num_slices: number of slices in x and y.
    """
    x = randn((num_slices, *operator.image_shape), dtype, seed=1)
    y = randn((num_slices, *operator.measurement_shape), dtype, seed=2)
    Ax = operator.forward(x)
    gap = abs(inner(Ax, y) - inner(x, operator.adjoint(y)))
    assert gap <= tol * float(torch.linalg.vector_norm(Ax) * torch.linalg.vector_norm(y))


def dense_matrix(operator: LinearOperator, dtype: torch.dtype, row: int = 0) -> Tensor:
    """Return the matrix (measurement, pixel) of ``forward``, found by applying it to every unit image.

    Args:
        operator: operator of a small image.
        dtype: dtype of images and measurements.
        row: slice whose matrix is returned, where slices differ.
    """
    num_pixels = math.prod(operator.image_shape)
    units = torch.eye(num_pixels, dtype=dtype).reshape(num_pixels, *operator.image_shape)
    return operator.of_slices([row] * num_pixels).forward(units).reshape(num_pixels, -1).T


class OperatorContract:
    """Tests of one operator; inherit, set ``dtype`` and ``tol``, and provide the fixture ``operator``.

    The operator should be small, because its dense matrix is made. It may be for any number of slices or, if
    its slices differ, for two or more.

    Attributes:
        dtype: dtype of images and measurements.
        tol: relative tolerance; about 1e-10 in double precision and 1e-5 in single precision.
        exact: whether the bits of a slice's result are promised not to depend on its layout in memory, which
            few libraries promise.
    """

    dtype: torch.dtype = torch.float64
    tol: float = 1e-10
    exact: bool = False

    @pytest.fixture
    def operator(self) -> LinearOperator:
        """Return the operator to test."""
        raise NotImplementedError

    def num_slices(self, operator: LinearOperator) -> int:
        """Return a number of slices that the operator accepts."""
        return operator.num_slices or 3

    def image(self, operator: LinearOperator, num_slices: int | None = None, seed: int = 0) -> Tensor:
        """Return random images; ``num_slices`` None: a number that the operator accepts."""
        num_slices = self.num_slices(operator) if num_slices is None else num_slices
        return randn((num_slices, *operator.image_shape), self.dtype, seed)

    def measurement(self, operator: LinearOperator, num_slices: int | None = None, seed: int = 0) -> Tensor:
        """Return random measurements; ``num_slices`` None: a number that the operator accepts."""
        num_slices = self.num_slices(operator) if num_slices is None else num_slices
        return randn((num_slices, *operator.measurement_shape), self.dtype, seed)

    def assert_close(self, found: Tensor, expected: Tensor) -> None:
        """Assert that no entry differs by more than 10 ``tol`` of the largest."""
        largest = float(expected.abs().max()) if expected.numel() else 0.0
        torch.testing.assert_close(found, expected, rtol=0, atol=10 * self.tol * largest)

    def assert_bits(self, found: Tensor, expected: Tensor) -> None:
        """Assert that all bits agree."""
        assert torch.equal(found, expected)

    def test_is_a_linear_operator(self, operator: LinearOperator) -> None:
        """It inherits from the base class."""
        assert isinstance(operator, LinearOperator)

    def test_shapes_and_dtype(self, operator: LinearOperator) -> None:
        """Results have the promised shape and dtype, for no slice at all, too."""
        for num_slices in (0, 1, 3) if operator.num_slices is None else (operator.num_slices,):
            y = operator.forward(self.image(operator, num_slices))
            assert y.shape == (num_slices, *operator.measurement_shape)
            x = operator.adjoint(y)
            assert x.shape == (num_slices, *operator.image_shape)
            assert x.dtype == y.dtype == self.dtype

    def test_linear(self, operator: LinearOperator) -> None:
        """A (2.5 a − b) = 2.5 A a − A b."""
        a, b = self.image(operator, seed=1), self.image(operator, seed=2)
        together = operator.forward(2.5 * a - b)
        self.assert_close(together, 2.5 * operator.forward(a) - operator.forward(b))

    def test_adjoint(self, operator: LinearOperator) -> None:
        """⟨A x, y⟩ = ⟨x, Aᴴ y⟩."""
        assert_adjoint(operator, self.dtype, self.tol, self.num_slices(operator))

    def test_adjoint_is_the_transposed_matrix(self, operator: LinearOperator) -> None:
        """The adjoint is the conjugate transpose of the dense matrix, entry by entry."""
        y = self.measurement(operator)
        for row, found in enumerate(operator.adjoint(y)):
            matrix = dense_matrix(operator, self.dtype, row if operator.num_slices else 0)
            expected = matrix.mH @ y[row].flatten()
            self.assert_close(found.flatten(), expected)

    def test_gram_is_positive_and_symmetric(self, operator: LinearOperator) -> None:
        """⟨AᴴA a, a⟩ = ‖A a‖² and ⟨AᴴA a, b⟩ = ⟨a, AᴴA b⟩."""
        a, b = self.image(operator, seed=1), self.image(operator, seed=2)
        energy = float(torch.linalg.vector_norm(operator.forward(a))) ** 2
        assert abs(inner(operator.gram(a), a) - energy) <= 10 * self.tol * energy
        scale = float(torch.linalg.vector_norm(operator.gram(a)) * torch.linalg.vector_norm(b))
        assert abs(inner(operator.gram(a), b) - inner(a, operator.gram(b))) <= 10 * self.tol * scale

    def test_algebra_gives_the_same_bits(self, operator: LinearOperator) -> None:
        """``A(x)``, ``A @ x``, ``A.H``, ``A.gram`` and ``A.H @ A`` are the plain calls under other names."""
        x, y = self.image(operator), self.measurement(operator)
        Ax, AHy = operator.forward(x), operator.adjoint(y)
        assert torch.equal(operator(x), Ax)
        assert torch.equal(operator @ x, Ax)
        assert torch.equal(operator.H(y), AHy)
        assert torch.equal(operator.H.adjoint(x), Ax)
        assert torch.equal(operator.H.H(x), Ax)
        assert torch.equal(operator.gram(x), operator.adjoint(Ax))
        assert torch.equal((operator.H @ operator)(x), operator.adjoint(Ax))
        assert torch.equal((operator @ operator.H).adjoint(y), operator.forward(AHy))

    def test_norm_is_no_underestimate(self, operator: LinearOperator) -> None:
        """The norm is at least 90 % of the largest singular value, which power iteration nears from below."""
        rows = range(operator.num_slices or 1)
        matrices = [dense_matrix(operator, self.dtype, row) for row in rows]
        largest = max(float(torch.linalg.matrix_norm(matrix, 2)) for matrix in matrices)
        assert operator.norm() >= 0.9 * largest
        assert operator.H.norm() == operator.norm()

    def test_slices_are_independent(self, operator: LinearOperator) -> None:
        """A slice gives the same alone as among others."""
        x = self.image(operator)
        y = operator.forward(x)
        back = operator.adjoint(y)
        for z in range(len(x)):
            alone = operator.of_slices([z])
            measured = alone.forward(x[z : z + 1])
            self.assert_close(measured, y[z : z + 1])
            self.assert_close(alone.adjoint(measured), back[z : z + 1])

    def test_slices_in_another_order(self, operator: LinearOperator) -> None:
        """``of_slices`` takes any slices in any order."""
        x = self.image(operator)
        rows = [*range(len(x))][::-1][:2]
        self.assert_close(operator.of_slices(rows).forward(x[rows]), operator.forward(x)[rows])

    def test_any_strides(self, operator: LinearOperator) -> None:
        """The layout in memory does not change the result, in no bit if this is promised."""
        x = self.image(operator)
        other_layout = torch.stack(list(x), dim=-1).movedim(-1, 0)
        assert_same = self.assert_bits if self.exact else self.assert_close
        assert_same(operator.forward(other_layout), operator.forward(x))
        assert_same(operator.forward(x.flip(0)), operator.forward(x.flip(0).contiguous()))

    def test_pickle_and_copy_before_and_after_use(self, operator: LinearOperator) -> None:
        """A copy computes the same bits, made before or after the first use."""
        x = self.image(operator)
        fresh = pickle.loads(pickle.dumps(operator))
        expected = operator.forward(x)
        for other in (fresh, pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator)):
            assert torch.equal(other.forward(x), expected)
            assert torch.equal(other.adjoint(expected), operator.adjoint(expected))

    def test_gradients(self, operator: LinearOperator) -> None:
        """The gradient of forward is the adjoint, and the reverse."""
        x = self.image(operator).requires_grad_()
        y = self.measurement(operator)
        (grad,) = torch.autograd.grad(operator.forward(x), x, y)
        assert torch.equal(grad, operator.adjoint(y))
        y.requires_grad_()
        (grad,) = torch.autograd.grad(operator.adjoint(y), y, x.detach())
        assert torch.equal(grad, operator.forward(x.detach()))

    def test_gradcheck(self, operator: LinearOperator) -> None:
        """First and second derivatives agree with finite differences (double precision only)."""
        if self.dtype not in (torch.float64, torch.complex128):
            pytest.skip("gradcheck compares with finite differences: double precision only")
        one = operator.of_slices([0])
        x = self.image(one, num_slices=1).requires_grad_()
        y = self.measurement(one, num_slices=1).requires_grad_()
        # Fast mode: along random directions; the dense match already checks every entry.
        assert torch.autograd.gradcheck(one.forward, (x,), fast_mode=True)
        assert torch.autograd.gradcheck(one.adjoint, (y,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x: one.forward(x) ** 2, (x,), fast_mode=True)

    def test_shape_errors_name_operator_expected_and_got(self, operator: LinearOperator) -> None:
        """A wrong shape is refused in words that help."""
        expected = ", ".join(map(str, operator.image_shape))
        wrong = (2, *(size + 1 for size in operator.image_shape))
        message = rf"{re.escape(operator.name)}.*\(z, {expected}\).*{re.escape(str(wrong))}"
        with pytest.raises(ValueError, match=message):
            operator.forward(torch.zeros(wrong, dtype=self.dtype))
        with pytest.raises(ValueError, match="adjoint"):
            operator.adjoint(torch.zeros(operator.measurement_shape, dtype=self.dtype))

    def test_another_dtype_is_refused(self, operator: LinearOperator) -> None:
        """Nothing is converted silently."""
        kinds = (torch.float32, torch.float64), (torch.complex64, torch.complex128)
        other = next(dtype for dtype in kinds[self.dtype.is_complex] if dtype != self.dtype)
        with pytest.raises(ValueError, match=f"expected dtype {self.dtype}, got {other}"):
            operator.forward(self.image(operator).to(other))
