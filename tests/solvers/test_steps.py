"""The parts of a reverse step against known answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ddip_ray.config.settings import RunConfig, SamplerSettings
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.build import rule_for
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.steps import NUM_ORIENTATIONS, correction, move_on, oriented
from ddip_ray.solvers.sampling.sampler import Denoised


def dense_problem() -> tuple[ParallelBeam, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A, consistent y, another image, and A as a matrix."""
    A = ParallelBeam(ParallelBeamGeometry((6, 6), (0.0, 0.7, 1.9), 9, 1.0, 1.0, 4.0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, x0_hat = torch.randn(2, 2, 6, 6, generator=generator, dtype=torch.float64)
    dense = A.forward(torch.eye(36, dtype=torch.float64).reshape(36, 6, 6)).reshape(36, -1).T
    return A, A.forward(x), x0_hat, dense


@pytest.mark.parametrize("gamma", [0.3, math.inf])
@pytest.mark.parametrize("guessed", ["nothing", "zero", "half", "rubbish"])
def test_correction_against_a_dense_solve(gamma: float, guessed: str) -> None:
    A, y, x0_hat, dense = dense_problem()
    rubbish = torch.sin(torch.arange(54.0, dtype=torch.float64)).reshape(2, 3, 9)
    if gamma == math.inf:  # the consistent image nearest to x0_hat
        misfit = (y - A.forward(x0_hat)).reshape(2, -1)
        expected = (torch.linalg.pinv(dense) @ misfit.T).T.reshape(2, 6, 6)
        tol = 1e-7
    else:
        y = y + rubbish.flip(0)
        misfit = (y - A.forward(x0_hat)).reshape(2, -1)
        normal = torch.eye(36, dtype=torch.float64) + gamma * dense.T @ dense
        expected = torch.linalg.solve(normal, gamma * (misfit @ dense).T).T.reshape(2, 6, 6)
        tol = 1e-9
    guesses = {"zero": 0 * expected, "half": expected / 2, "rubbish": A.adjoint(rubbish)}
    found = correction(A, y, x0_hat, gamma, 60, guess=guesses.get(guessed))
    torch.testing.assert_close(found, expected, atol=tol, rtol=tol)


@pytest.mark.parametrize("gamma", [0.3, math.inf])
def test_a_correction_is_found_again_at_once(gamma: float) -> None:
    A, y, x0_hat, _ = dense_problem()
    found = correction(A, y, x0_hat, gamma, 60)
    torch.testing.assert_close(
        correction(A, y, x0_hat, gamma, 0, guess=-3 * found), found, atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("method", ["dds", "ddnm", "diffpir", "diffusionmbir"])
def test_the_last_correction_is_where_the_next_begins(method: str) -> None:
    """Few iterations a step go as far as twice as many at the second, of the same denoised image."""

    def misfits(cg_warm_start: bool) -> list[float]:
        settings = SamplerSettings(final_cg_iterations=4, cg_warm_start=cg_warm_start)
        config = RunConfig(method=method, sampler=settings)  # type: ignore[arg-type]
        prior = DiffusionPrior(nn.Identity(), NoiseSchedule.linear(), "epsilon", image_range=(0, 1))
        rule = rule_for(config, prior)(problem, Alone())
        denoised = Denoised(2, 1, x0_hat, x0_hat, 0 * x0_hat)
        return [float((A.forward(rule.consistent(denoised)) - y).norm()) for _ in range(2)]

    A, y, x0_hat, _ = dense_problem()
    problem = SlabProblem(A, y, Slab(0, 2), 2, noise_std=0.0)
    cold, warm = misfits(False), misfits(True)
    assert cold[0] == warm[0]
    assert warm[1] < 0.8 * cold[1]


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
