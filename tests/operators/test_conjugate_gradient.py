"""CG on least squares, and the inner products it stands on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddip_ray.numerics.conjugate_gradient import CGResult, cgls
from ddip_ray.numerics.inner_product import slice_dot, slice_dot_real, slice_norm, slice_scale
from ddip_ray.operators import ParallelBeam, ParallelBeamGeometry
from ddip_ray.testing import randn

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


@pytest.fixture
def thread_count_restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def matvec(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x[..., None])[..., 0]


def solve(
    matrix: Tensor, y: Tensor, x0: Tensor, num_iters: int, pull: float = 0.0, tol: float = 0.0
) -> CGResult:
    """min ‖A x − y‖² + pull² ‖x − x0‖² from x0; one dense matrix a slice."""
    found = cgls(
        lambda x: (matvec(matrix, x), pull * x),
        lambda r: matvec(matrix.mH, r[0]) + pull * r[1],
        (y - matvec(matrix, x0), torch.zeros_like(x0)),
        num_iters,
        tol=tol,
    )
    return found._replace(x=x0 + found.x)


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
    assert torch.allclose(slice_dot_real(a, b), slice_dot(a, b).real, rtol=1e-4, atol=1e-5)


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
    matrix, y, x0 = randn((3, 9, 6), dtype, 1), randn((3, 9), dtype, 2), randn((3, 6), dtype, 3)
    result = solve(matrix, y, x0, 40, tol=1e-12)
    expected = torch.linalg.lstsq(matrix, y[..., None]).solution[..., 0]
    torch.testing.assert_close(result.x, expected, rtol=0, atol=1e-9)
    assert result.converged.all()
    assert len(result.residual_norms) < 40  # stopped by tol
    gradient = matvec(matrix.mH, y - matvec(matrix, x0))
    torch.testing.assert_close(result.residual_norms[0], slice_norm(gradient))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_pull_towards_the_start(dtype: torch.dtype) -> None:
    matrix, y, x0 = randn((3, 9, 6), dtype, 1), randn((3, 9), dtype, 2), randn((3, 6), dtype, 3)
    system = matrix.mH @ matrix + 0.49 * torch.eye(6, dtype=dtype)
    expected = torch.linalg.solve(system, matvec(matrix.mH, y) + 0.49 * x0)
    x = solve(matrix, y, x0, 40, pull=0.7, tol=1e-12).x
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-9)


def test_truncated_iterates_minimise_over_the_krylov_space() -> None:
    """After k iterations no better point exists in x0 + span(s, AᵀA s, …), s the first gradient."""
    matrix, y = randn((1, 9, 8), torch.float64, 1), randn((1, 9), torch.float64, 2)
    x0 = randn((1, 8), torch.float64, 3)
    got = solve(matrix, y, x0, 3).x[0]
    A, residual = matrix[0], y[0] - matrix[0] @ x0[0]
    basis = torch.stack([torch.linalg.matrix_power(A.T @ A, k) @ A.T @ residual for k in range(3)], dim=1)
    coefficients = torch.linalg.lstsq(A @ basis, residual[:, None]).solution[:, 0]
    torch.testing.assert_close(got, x0[0] + basis @ coefficients, rtol=0, atol=1e-9)


def test_what_the_measurements_do_not_see_stays() -> None:
    """The start's part in the null space: why DDS may begin at the denoised image."""
    matrix, y = randn((2, 3, 8), torch.float64, 1), randn((2, 3), torch.float64, 2)
    x0 = randn((2, 8), torch.float64, 3)
    x = solve(matrix, y, x0, 20, tol=1e-12).x
    unseen = torch.eye(8, dtype=torch.float64) - torch.linalg.pinv(matrix) @ matrix
    torch.testing.assert_close(matvec(unseen, x), matvec(unseen, x0), rtol=0, atol=1e-9)
    torch.testing.assert_close(matvec(matrix, x), y, rtol=0, atol=1e-9)


def test_float32_carries_it_further_than_the_normal_equations() -> None:
    """Singular values from 1 to 1e-3, so from 1 to 1e-6 on the normal equations."""
    u, v = (torch.linalg.qr(randn((40, 40), torch.float64, seed)).Q for seed in (1, 2))
    exact = ((u * torch.logspace(0, -3, 40, dtype=torch.float64)) @ v.T)[None]
    x = randn((1, 40), torch.float64, 3)
    A, y = exact.float(), matvec(exact, x).float()
    kept = solve(A, y, torch.zeros(1, 40), 1000).x
    normal = torch.zeros(1, 40)
    residual = direction = matvec(A.mT, y)
    for _ in range(1000):
        q = matvec(A.mT, matvec(A, direction))
        step = slice_dot(residual, residual) / slice_dot(direction, q)
        normal = normal + step * direction
        after = residual - step * q
        direction = after + slice_dot(after, after) / slice_dot(residual, residual) * direction
        residual = after
    errors = [float((result - x).norm() / x.norm()) for result in (kept, normal)]
    assert errors[0] < 1e-3
    assert errors[1] > 10 * errors[0]


def test_each_slice_has_its_own_steps() -> None:
    """Scaling one slice's system by 1e4 must leave the others as they were."""
    matrix, y = randn((3, 9, 6), torch.float64, 1), randn((3, 9), torch.float64, 2)
    start = torch.zeros(3, 6, dtype=torch.float64)
    parts = [slice(z, z + 1) for z in range(3)]
    apart = torch.cat([solve(matrix[part], y[part], start[part], 4).x for part in parts])
    scale = torch.tensor([1.0, 1e4, 1.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(solve(matrix, scale * y, start, 4).x, scale * apart, rtol=1e-10, atol=0)


def test_slices_that_are_solved_stay_as_they_are() -> None:
    matrix, x0 = randn((3, 6, 6), torch.float64, 1), randn((3, 6), torch.float64, 2)
    y = matvec(matrix, x0)
    y[1] += 1.0
    y[2] = x0[2] = 0.0  # an empty slice
    x0.requires_grad_()
    x = solve(matrix, y, x0, 30).x
    assert x.isfinite().all()
    assert torch.equal(x[[0, 2]], x0[[0, 2]])
    (grad,) = torch.autograd.grad(x.sum(), x0)
    assert grad.isfinite().all()


def test_what_a_solution_leaves_is_not_solved_again() -> None:
    """Its gradient is rounding, which further iterations would divide by squared singular values."""
    u, v = (
        torch.linalg.qr(randn((60, 40), torch.float64, 1)).Q,
        torch.linalg.qr(randn((40, 40), torch.float64, 2)).Q,
    )
    matrix = ((u * torch.logspace(0, -3, 40, dtype=torch.float64)) @ v.T).float()[None]
    y = randn((1, 60), torch.float32, 3)
    solution = torch.linalg.lstsq(matrix[0].double(), y[0].double()[:, None]).solution[:, 0].float()[None]
    tol = 100 * torch.finfo(torch.float32).eps
    again = solve(matrix, y, solution, 200, tol=tol)
    assert again.converged.all()
    assert len(again.residual_norms) < 5
    torch.testing.assert_close(again.x, solution, rtol=0, atol=1e-3 * float(solution.abs().max()))


def test_zero_iterations_return_the_start() -> None:
    matrix, y, x0 = (
        randn((2, 3, 3), torch.float64, 1),
        randn((2, 3), torch.float64, 2),
        randn((2, 3), torch.float64, 3),
    )
    result = solve(matrix, y, x0, 0)
    assert torch.equal(result.x, x0)
    assert result.residual_norms.shape == (1, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradient_through_the_truncated_solve(dtype: torch.dtype) -> None:
    matrix = randn((2, 6, 4), dtype, 1)
    y, x0 = (randn((2, n), dtype, n).requires_grad_() for n in (6, 4))
    assert torch.autograd.gradcheck(lambda y, x0: solve(matrix, y, x0, 3, pull=0.5).x, (y, x0))


def test_norms_for_all_slices_solve_a_coupled_system() -> None:
    """With one number for the volume, CG solves a matrix that mixes slices."""
    matrix, y = randn((14, 12), torch.float64, 1), randn((2, 7), torch.float64, 2)
    x = cgls(
        lambda x: ((matrix @ x.flatten()).reshape(2, 7),),
        lambda r: (matrix.T @ r[0].flatten()).reshape(3, 4),
        (y,),
        40,
        tol=1e-12,
        norms=lambda blocks: sum(slice_dot(b.reshape(1, -1), b.reshape(1, -1)) for b in blocks),
    ).x
    expected = torch.linalg.lstsq(matrix, y.flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close(x.flatten(), expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("thread_count_restored")
def test_bits_of_solution_and_gradient_depend_on_the_slice_alone() -> None:
    """What 1 worker with 24 slices and 2 workers with 12 compute must be the same, to the last bit."""
    angles = [0.3 * view for view in range(7)]
    operator = ParallelBeam(ParallelBeamGeometry.centered((23, 18), angles, 31))
    x0, truth = randn((24, 23, 18), torch.float32, 1), randn((24, 23, 18), torch.float32, 2)
    y = operator.forward(truth)

    def solved(part: slice) -> tuple[Tensor, Tensor]:
        start = x0[part].clone().requires_grad_()
        correction = cgls(
            lambda x: (operator.forward(x), 3.0 * x),
            lambda r: operator.adjoint(r[0]) + 3.0 * r[1],
            (y[part] - operator.forward(start), torch.zeros_like(start)),
            num_iters=5,
        ).x
        x = start + correction
        (grad,) = torch.autograd.grad(x, start, truth[part])
        return x.detach(), grad

    torch.set_num_threads(1)
    x, grad = solved(slice(0, 24))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for part in (slice(0, 12), slice(12, 24), slice(5, 6), slice(3, 20)):
            x_part, grad_part = solved(part)
            assert torch.equal(x_part, x[part])
            assert torch.equal(grad_part, grad[part])
