"""CG and the inner products it stands on."""

from __future__ import annotations

import pytest
import torch
from operator_contract import randn
from torch import Tensor

from ddip_ray.operators import (
    ParallelBeam,
    ParallelBeamGeometry,
    cg,
    gram,
    slice_dot,
    slice_norm,
    slice_scale,
)

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


@pytest.fixture
def thread_count_restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def hermitian(num_slices: int, n: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Positive definite matrices, one for each slice, eigenvalues in about 0.5 ... 5."""
    factor = randn((num_slices, n, n), dtype, seed) / n**0.5
    return factor.mH @ factor + 0.5 * torch.eye(n, dtype=dtype)


def apply_dense(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.flatten(1)[..., None])[..., 0].reshape(x.shape)


# --- inner products -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 1, 1), (4, 33, 16), (2, 3, 5, 7), (3, 11), (0, 4, 4)])
def test_dot_is_the_conjugated_inner_product(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, b = randn(shape, dtype, 1), randn(shape, dtype, 2)
    dots = slice_dot(a, b)
    expected = (a.conj() * b).reshape(shape[0], -1).sum(1) if shape[0] else torch.zeros(0, dtype=dtype)
    assert dots.dtype == dtype
    assert torch.allclose(dots, expected, rtol=1e-4, atol=1e-4)
    norms = slice_norm(a)
    assert not norms.is_complex()
    assert torch.allclose(norms**2, slice_dot(a, a).real, rtol=1e-5)


@pytest.mark.usefixtures("thread_count_restored")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner_shape", [(37, 29), (3, 10, 7)])
def test_dot_bits_depend_on_the_slice_alone(inner_shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, b = randn((41, *inner_shape), dtype, 1), randn((41, *inner_shape), dtype, 2)
    a_innermost, b_innermost = (
        torch.stack(list(t), dim=-1).movedim(-1, 0) for t in (a, b)
    )  # slices innermost in memory
    expected = slice_dot(a, b)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for size in (1, 3, 8, 17, 41):
            part = slice(41 - size, 41)
            assert torch.equal(slice_dot(a[part], b[part]), expected[part])
            assert torch.equal(slice_dot(a_innermost[part], b_innermost[part]), expected[part])
            assert torch.equal(slice_dot(a[part], b_innermost[part]), expected[part])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients_of_dot_and_scale(dtype: torch.dtype) -> None:
    a, b = (randn((2, 3, 2), dtype, seed).requires_grad_() for seed in (1, 2))
    per_slice = randn((2,), torch.float64, 3).requires_grad_()
    for_all = randn((1,), torch.float64, 4).requires_grad_()
    assert torch.autograd.gradcheck(slice_dot, (a, b))
    assert torch.autograd.gradgradcheck(slice_dot, (a, b))
    assert torch.autograd.gradcheck(slice_scale, (per_slice, a))
    assert torch.autograd.gradcheck(slice_scale, (for_all, a))
    assert torch.autograd.gradgradcheck(slice_scale, (per_slice, a))


# --- solver ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_solves_as_a_dense_solver(dtype: torch.dtype) -> None:
    matrix, b, x0 = hermitian(3, 12, dtype), randn((3, 4, 3), dtype, 1), randn((3, 4, 3), dtype, 2)
    result = cg(lambda x: apply_dense(matrix, x), b, x0, num_iters=60, tol=1e-12)
    expected = torch.linalg.solve(matrix, b.flatten(1)).reshape(b.shape)
    assert torch.allclose(result.x, expected, rtol=0, atol=1e-9)
    assert result.converged.all()
    assert len(result.residual_norms) < 40  # stopped by tol
    assert torch.allclose(result.residual_norms[0], slice_norm(b - apply_dense(matrix, x0)))


def test_truncated_iterates_minimise_over_the_krylov_space() -> None:
    """After k iterations no better point exists in x0 + span(r, A r, ..., A^(k-1) r), in the norm of A."""
    matrix, b = hermitian(1, 8, torch.float64), randn((1, 8), torch.float64, 1)
    x0 = randn((1, 8), torch.float64, 2)
    got = cg(lambda x: apply_dense(matrix, x), b, x0, num_iters=3).x[0]
    residual = b[0] - matrix[0] @ x0[0]
    basis = torch.stack([torch.linalg.matrix_power(matrix[0], k) @ residual for k in range(3)], dim=1)
    coefficients = torch.linalg.solve(basis.T @ matrix[0] @ basis, basis.T @ residual)
    assert torch.allclose(got, x0[0] + basis @ coefficients, atol=1e-9)


def test_each_slice_has_its_own_steps() -> None:
    """Scaling one slice's system by 1e4 must leave the others as they were."""
    matrix, b = hermitian(3, 6, torch.float64), randn((3, 6), torch.float64, 1)
    apart = torch.cat(
        [cg(lambda x, z=z: apply_dense(matrix[z : z + 1], x), b[z : z + 1], 0 * b[:1], 4).x for z in range(3)]
    )
    scale = torch.tensor([1.0, 1e4, 1.0], dtype=torch.float64)[:, None]
    together = cg(lambda x: apply_dense(matrix, x), scale * b, 0 * b, 4).x
    assert torch.allclose(together, scale * apart, rtol=1e-10)


def test_slices_that_are_solved_stay_as_they_are() -> None:
    matrix, x0 = hermitian(3, 6, torch.float64), randn((3, 6), torch.float64, 1)
    b = apply_dense(matrix, x0)
    b[1] += 1.0
    b[2] = x0[2] = 0.0  # an empty slice
    x0.requires_grad_()
    result = cg(lambda x: apply_dense(matrix, x), b, x0, num_iters=30)
    assert result.x.isfinite().all()
    assert torch.equal(result.x[[0, 2]], x0[[0, 2]])
    assert torch.allclose(apply_dense(matrix, result.x), b, atol=1e-9)
    (grad,) = torch.autograd.grad(result.x.sum(), x0)
    assert grad.isfinite().all()


def test_zero_iterations_return_the_start() -> None:
    b, x0 = randn((2, 3), torch.float64, 1), randn((2, 3), torch.float64, 2)
    result = cg(lambda x: x, b, x0, num_iters=0)
    assert torch.equal(result.x, x0)
    assert result.residual_norms.shape == (1, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradient_through_the_truncated_solve(dtype: torch.dtype) -> None:
    b, x0 = (randn((2, 5), dtype, seed).requires_grad_() for seed in (1, 2))
    gamma = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    matrix = hermitian(2, 5, dtype)

    def solve(b: Tensor, x0: Tensor, gamma: Tensor) -> Tensor:
        return cg(lambda x: x + gamma * apply_dense(matrix, x), b, x0, num_iters=3).x

    assert torch.autograd.gradcheck(solve, (b, x0, gamma))


def test_a_dot_for_all_slices_solves_the_coupled_system() -> None:
    """With one inner product for the volume, CG solves a matrix that mixes slices."""
    matrix, b = hermitian(1, 12, torch.float64)[0], randn((3, 4), torch.float64, 1)

    def whole(a: Tensor, b: Tensor) -> Tensor:
        return slice_dot(a.reshape(1, -1), b.reshape(1, -1))

    result = cg(lambda x: (matrix @ x.flatten()).reshape(x.shape), b, 0 * b, 60, tol=1e-12, dot=whole)
    assert torch.allclose(result.x.flatten(), torch.linalg.solve(matrix, b.flatten()), atol=1e-9)


@pytest.mark.usefixtures("thread_count_restored")
def test_bits_of_solution_and_gradient_depend_on_the_slice_alone() -> None:
    """What 1 worker with 24 slices and 2 workers with 12 compute must be the same, to the last bit."""
    angles = [0.3 * view for view in range(7)]
    operator = ParallelBeam(ParallelBeamGeometry.centered((23, 18), angles, 31))
    x0, truth = randn((24, 23, 18), torch.float32, 1), randn((24, 23, 18), torch.float32, 2)
    b = operator.adjoint(operator.forward(truth))

    def solve(part: slice) -> tuple[Tensor, Tensor]:
        start = x0[part].clone().requires_grad_()
        x = cg(lambda v: v + 0.1 * gram(operator, v), b[part].contiguous(), start, num_iters=5).x
        (grad,) = torch.autograd.grad(x, start, truth[part])
        return x.detach(), grad

    torch.set_num_threads(1)
    x, grad = solve(slice(0, 24))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for part in (slice(0, 12), slice(12, 24), slice(5, 6), slice(3, 20)):
            x_part, grad_part = solve(part)
            assert torch.equal(x_part, x[part])
            assert torch.equal(grad_part, grad[part])
