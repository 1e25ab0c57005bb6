"""Differences and the power iteration."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddip_ray.numerics.finite_difference import difference, difference_adjoint
from ddip_ray.numerics.operator_norm import operator_norm
from ddip_ray.operators import ParallelBeam, ParallelBeamGeometry
from ddip_ray.testing import inner, randn


def test_values_and_clipped_ends() -> None:
    x = torch.tensor([[1.0, 4.0, 9.0]])
    assert torch.equal(difference(x, 1), torch.tensor([[3.0, 5.0]]))
    assert torch.equal(difference_adjoint(torch.tensor([[3.0, 5.0]]), 1), torch.tensor([[-3.0, -2.0, 5.0]]))
    assert difference(x, 0).shape == (0, 3)
    assert torch.equal(difference_adjoint(difference(x, 0), 0), torch.zeros(1, 3))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_adjoint(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    for dtype in (torch.float64, torch.complex128):
        x = randn(tuple(shape), dtype, 1)
        d = torch.rand_like(difference(x, axis))
        back = difference_adjoint(d, axis)
        assert back.shape == x.shape
        assert abs(inner(difference(x, axis), d) - inner(x, back)) < 1e-12


def test_differentiable() -> None:
    x = randn((3, 4), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: difference_adjoint(difference(x, 0) ** 2, 0), (x,))


def test_operator_norm_of_a_matrix_and_of_differences() -> None:
    matrix = randn((5, 8), torch.float64)
    expected = float(torch.linalg.matrix_norm(matrix, 2))
    gram_matrix = matrix.T @ matrix
    assert operator_norm(
        lambda x: x @ gram_matrix, (1, 8), num_iters=300, dtype=torch.float64
    ) == pytest.approx(expected, rel=1e-6)
    # Eigenvalues of DᵀD on a line of n points: 2 − 2 cos(π k / n).
    n = 9
    got = operator_norm(
        lambda x: difference_adjoint(difference(x, 1), 1), (1, n), num_iters=500, dtype=torch.float64
    )
    assert got == pytest.approx(
        (2 - 2 * torch.cos(torch.tensor(torch.pi * (n - 1) / n)).item()) ** 0.5, rel=1e-6
    )


def test_operator_norm_is_repeatable_and_survives_zero() -> None:
    operator = ParallelBeam(ParallelBeamGeometry.centered((12, 12), [0.4 * v for v in range(8)], 17))

    def estimate(seed: int) -> float:
        return operator_norm(operator.gram, (1, 12, 12), seed=seed)

    assert estimate(0) == estimate(0)
    assert estimate(0) == pytest.approx(estimate(1), rel=0.02)
    assert operator_norm(torch.zeros_like, (2, 3), num_iters=3) == 0.0
