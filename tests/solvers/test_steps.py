"""The parts of a reverse step against known answers."""

from __future__ import annotations

import math

import pytest
import torch

from ddip_ray.operators.geometry import ParallelBeamGeometry
from ddip_ray.operators.parallel_beam import ParallelBeam
from ddip_ray.solvers.steps import NUM_ORIENTATIONS, data_consistency, move_on, oriented


def test_data_consistency_against_a_dense_solve() -> None:
    A = ParallelBeam(ParallelBeamGeometry((6, 6), (0.0, 0.7, 1.9), 9, 1.0, 1.0, 4.0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(2, 3, 9, generator=generator, dtype=torch.float64)
    x0_hat = torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
    dense = A.forward(torch.eye(36, dtype=torch.float64).reshape(36, 6, 6)).reshape(36, -1).T
    gamma = 0.3
    right = x0_hat.reshape(2, -1) + gamma * y.reshape(2, -1) @ dense
    expected = torch.linalg.solve(torch.eye(36, dtype=torch.float64) + gamma * dense.T @ dense, right.T).T
    found = data_consistency(A, y, x0_hat, gamma, 40)
    torch.testing.assert_close(found.reshape(2, -1), expected, atol=1e-9, rtol=1e-9)
    # γ = ∞: the consistent image nearest to x0_hat, for consistent data.
    y = A.forward(torch.randn(2, 6, 6, generator=generator, dtype=torch.float64))
    found = data_consistency(A, y, x0_hat, math.inf, 60)
    step = torch.linalg.pinv(dense) @ (y.reshape(2, -1) - x0_hat.reshape(2, -1) @ dense.T).T
    torch.testing.assert_close(found.reshape(2, -1), x0_hat.reshape(2, -1) + step.T, atol=1e-7, rtol=1e-7)


def test_moving_on_keeps_the_variance() -> None:
    x0 = torch.zeros(1, 200, 200)
    eps, noise = torch.randn(1, 200, 200), torch.randn(1, 200, 200)
    assert float(move_on(x0, eps, noise, 0.36, 0.85).std()) == pytest.approx(0.8, rel=0.02)
    assert torch.equal(move_on(eps, noise, noise, 1.0, 0.85), eps)


def test_orientations_are_the_eight_of_a_square_and_are_undone() -> None:
    x, t = torch.rand(2, 1, 6, 10), torch.zeros(2)
    marks = set()
    for k in range(NUM_ORIENTATIONS):
        assert torch.equal(oriented(lambda x, t: 2 * x, k)(x, t), 2 * x)

        def mark_a_corner(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            mark = torch.zeros_like(x)
            mark[..., 0, 1] = 1.0
            return mark

        marks.add(tuple(oriented(mark_a_corner, k)(x, t)[0, 0].nonzero().flatten().tolist()))
    assert marks == {(row, column) for row in (0, 5) for column in (1, 8)} | {
        (row, column) for row in (1, 4) for column in (0, 9)
    }
