"""What every linear operator must keep: inherit ``OperatorContract`` and say how to make one."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
from torch import Tensor

from ddip_ray.operators import LinearOperator, gram


def randn(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inner(a: Tensor, b: Tensor) -> complex:
    """⟨a, b⟩ in double precision."""
    wide = torch.complex128 if a.is_complex() else torch.float64
    return complex(torch.vdot(a.to(wide).flatten(), b.to(wide).flatten()))


def assert_adjoint(operator: LinearOperator, dtype: torch.dtype, tol: float, num_slices: int = 2) -> None:
    """⟨A x, y⟩ = ⟨x, Aᴴ y⟩ on noise, relative to ‖A x‖ ‖y‖."""
    x = randn((num_slices, *operator.image_shape), dtype, seed=1)
    y = randn((num_slices, *operator.measurement_shape), dtype, seed=2)
    Ax = operator.forward(x)
    gap = abs(inner(Ax, y) - inner(x, operator.adjoint(y)))
    assert gap <= tol * float(torch.linalg.vector_norm(Ax) * torch.linalg.vector_norm(y))


def dense_matrix(operator: LinearOperator, dtype: torch.dtype) -> Tensor:
    """The matrix of ``forward``, (measurement, pixel), one column for each unit image."""
    num_pixels = int(torch.tensor(operator.image_shape).prod())
    units = torch.eye(num_pixels, dtype=dtype).reshape(num_pixels, *operator.image_shape)
    return operator.forward(units).reshape(num_pixels, -1).T


class OperatorContract:
    """Inherit, set ``dtype`` and ``tol``, and provide the fixture ``operator`` (small)."""

    dtype: torch.dtype = torch.float64
    tol: float = 1e-10

    @pytest.fixture
    def operator(self) -> LinearOperator:
        raise NotImplementedError

    def image(self, operator: LinearOperator, num_slices: int = 2, seed: int = 0) -> Tensor:
        return randn((num_slices, *operator.image_shape), self.dtype, seed)

    def measurement(self, operator: LinearOperator, num_slices: int = 2, seed: int = 0) -> Tensor:
        return randn((num_slices, *operator.measurement_shape), self.dtype, seed)

    def test_is_a_linear_operator(self, operator: LinearOperator) -> None:
        assert isinstance(operator, LinearOperator)

    def test_shapes_and_dtype(self, operator: LinearOperator) -> None:
        for num_slices in (0, 1, 3):
            y = operator.forward(self.image(operator, num_slices))
            assert y.shape == (num_slices, *operator.measurement_shape)
            x = operator.adjoint(y)
            assert x.shape == (num_slices, *operator.image_shape)
            assert x.dtype == y.dtype == self.dtype

    def test_linear(self, operator: LinearOperator) -> None:
        a, b = self.image(operator, seed=1), self.image(operator, seed=2)
        together = operator.forward(2.5 * a - b)
        apart = 2.5 * operator.forward(a) - operator.forward(b)
        assert torch.allclose(together, apart, rtol=0, atol=10 * self.tol * float(apart.abs().max()))

    def test_adjoint(self, operator: LinearOperator) -> None:
        assert_adjoint(operator, self.dtype, self.tol)

    def test_gram_is_positive_and_symmetric(self, operator: LinearOperator) -> None:
        a, b = self.image(operator, seed=1), self.image(operator, seed=2)
        energy = float(torch.linalg.vector_norm(operator.forward(a))) ** 2
        assert abs(inner(gram(operator, a), a) - energy) <= 10 * self.tol * energy
        scale = float(torch.linalg.vector_norm(gram(operator, a)) * torch.linalg.vector_norm(b))
        assert abs(inner(gram(operator, a), b) - inner(a, gram(operator, b))) <= 10 * self.tol * scale

    def test_adjoint_is_the_transposed_matrix(self, operator: LinearOperator) -> None:
        matrix = dense_matrix(operator, self.dtype)
        y = self.measurement(operator)
        expected = (y.reshape(len(y), -1) @ matrix.conj()).reshape(len(y), *operator.image_shape)
        assert torch.allclose(
            operator.adjoint(y), expected, rtol=0, atol=10 * self.tol * float(expected.abs().max())
        )

    def test_slices_are_independent(self, operator: LinearOperator) -> None:
        x = self.image(operator, num_slices=4)
        y = operator.forward(x)
        back = operator.adjoint(y)
        for z in range(4):
            alone = operator.forward(x[z : z + 1])
            assert torch.allclose(alone[0], y[z], rtol=0, atol=10 * self.tol * float(y.abs().max()))
            assert torch.allclose(
                operator.adjoint(alone)[0], back[z], rtol=0, atol=10 * self.tol * float(back.abs().max())
            )

    def test_any_strides(self, operator: LinearOperator) -> None:
        x = self.image(operator, num_slices=3)
        other_layout = torch.stack([x[z] for z in range(3)], dim=-1).movedim(-1, 0)
        assert torch.equal(operator.forward(x), operator.forward(other_layout))
        assert torch.equal(operator.forward(x.flip(0)[1:]), operator.forward(x.flip(0)[1:].contiguous()))

    def test_pickle_and_copy_before_and_after_use(self, operator: LinearOperator) -> None:
        x = self.image(operator)
        fresh = pickle.loads(pickle.dumps(operator))
        expected = operator.forward(x)
        for twin in (fresh, pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator)):
            assert torch.equal(twin.forward(x), expected)
            assert torch.equal(twin.adjoint(expected), operator.adjoint(expected))

    def test_gradients(self, operator: LinearOperator) -> None:
        x = self.image(operator).requires_grad_()
        y = self.measurement(operator)
        (grad,) = torch.autograd.grad(operator.forward(x), x, y)
        assert torch.equal(grad, operator.adjoint(y))
        y.requires_grad_()
        (grad,) = torch.autograd.grad(operator.adjoint(y), y, x.detach())
        assert torch.equal(grad, operator.forward(x.detach()))

    def test_gradcheck(self, operator: LinearOperator) -> None:
        if self.dtype not in (torch.float64, torch.complex128):
            pytest.skip("gradcheck compares with finite differences: double precision only")
        x = self.image(operator, num_slices=1).requires_grad_()
        y = self.measurement(operator, num_slices=1).requires_grad_()
        # Fast mode: along random directions; the dense match already checks every entry.
        assert torch.autograd.gradcheck(operator.forward, (x,), fast_mode=True)
        assert torch.autograd.gradcheck(operator.adjoint, (y,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x: operator.forward(x) ** 2, (x,), fast_mode=True)

    def test_shape_errors_name_operator_expected_and_got(self, operator: LinearOperator) -> None:
        expected = ", ".join(map(str, operator.image_shape))
        wrong = (2, *(size + 1 for size in operator.image_shape))
        message = rf"{type(operator).__name__}.*\(z, {expected}\).*{re.escape(str(wrong))}"
        with pytest.raises(ValueError, match=message):
            operator.forward(torch.zeros(wrong, dtype=self.dtype))
        with pytest.raises(ValueError, match="adjoint"):
            operator.adjoint(torch.zeros(operator.measurement_shape, dtype=self.dtype))
