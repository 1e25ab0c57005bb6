"""SciPy's operators and matrices as ours, and ours as theirs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import lsqr

import ddip_ray as dr
from ddip_ray.interop.scipy import ScipyOperator, as_scipy
from ddip_ray.operators.ct.parallel_beam import ParallelBeam

SHAPE = (8, 9)


def matrix(dtype: type) -> scipy.sparse.csr_matrix:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((100, 72)) + (
        1j * rng.standard_normal((100, 72)) if dtype is np.complex64 else 0
    )
    return scipy.sparse.csr_matrix(values.astype(dtype) * (rng.random((100, 72)) < 0.3))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_a_matrix_is_an_operator(dtype: type) -> None:
    M = matrix(dtype)
    A = ScipyOperator(M, SHAPE, (10, 10))
    x = torch.randn(3, *SHAPE, dtype=A.dtype)
    y = torch.randn(3, 10, 10, dtype=A.dtype)
    wanted = (M @ x.reshape(3, 72).numpy().T).T.reshape(3, 10, 10)
    np.testing.assert_allclose(A(x).numpy(), wanted, rtol=1e-4, atol=1e-4)
    left, right = torch.vdot(y.flatten(), A(x).flatten()), torch.vdot(A.adjoint(y).flatten(), x.flatten())
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_a_matrix_is_solved() -> None:
    A = ScipyOperator(matrix(np.float32), SHAPE)
    x = torch.rand(2, *SHAPE)
    found = dr.solve(A, A(x), method="cg", cg={"iterations": 200})
    assert float((found - x).abs().max()) < 1e-3


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"shape \(100, 72\), expected .* \(100, 64\)"):
        ScipyOperator(matrix(np.float32), (8, 8))


def test_our_operator_is_solved_by_scipy() -> None:
    A = ParallelBeam.equispaced((12, 12), num_views=30)
    x = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0))
    S = as_scipy(A)
    found = lsqr(S, A(x).numpy().ravel(), iter_lim=300)[0]
    np.testing.assert_allclose(found, x.numpy().ravel(), atol=1e-2)
