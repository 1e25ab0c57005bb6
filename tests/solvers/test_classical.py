"""FBP, CG and total variation against known answers."""

from __future__ import annotations

import torch
from small_problem import phantom, problem, psnr, solve
from torch import Tensor

from ddip_ray.config.settings import CGSettings, FBPSettings, TVSettings
from ddip_ray.solvers.classical.direct import CG, FBP
from ddip_ray.solvers.classical.total_variation import TotalVariation
from ddip_ray.solvers.core.communicator import Alone


def test_classical_methods_find_the_phantom() -> None:
    x = phantom()
    clean = problem(x, views=40)
    fbp = psnr(solve(FBP(clean, Alone(), FBPSettings())), x)
    cg = psnr(solve(CG(clean, Alone(), CGSettings(iterations=30))), x)
    tv = psnr(solve(TotalVariation(clean, Alone(), TVSettings(lam=1e-5, iterations=60))), x)
    assert fbp > 20
    assert cg > fbp + 3
    few = problem(x, views=8)
    cg_few = psnr(solve(CG(few, Alone(), CGSettings(iterations=30))), x)
    tv_few = psnr(solve(TotalVariation(few, Alone(), TVSettings(lam=1e-5, iterations=100))), x)
    assert tv_few > cg_few + 5
    assert tv > cg


def test_tv_minimises_its_objective() -> None:
    """No feasible perturbation lowers it: compared with long runs and random directions."""
    x = phantom(3, 16)
    p = problem(x, views=10, noise_std=0.05)
    settings_ = TVSettings(lam=1e-3, iterations=400, cg_iterations=10, edge=0.02)
    method = TotalVariation(p, Alone(), settings_)
    solution = solve(method)

    def objective(v: Tensor) -> float:
        misfit = 0.5 * method.scale**2 * (p.operator.forward(v) - p.y).square().sum()
        g = method.coupling.gradient(v)
        return float(misfit + method.lam * torch.sqrt(g[0] ** 2 + g[1] ** 2 + g[2] ** 2).sum())

    best = objective(solution)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-1, 1e-2):
        for _ in range(20):
            moved = (solution + size * torch.randn(solution.shape, generator=generator)).clamp_min(0)
            assert objective(moved) > best
    assert best < objective(x)


def test_tv_says_when_it_has_converged() -> None:
    x = phantom(3, 16)

    def run(tol: float) -> tuple[TotalVariation, list[bool]]:
        settings = TVSettings(lam=1e-3, iterations=200, edge=0.02, tol=tol)
        method = TotalVariation(problem(x, views=10, noise_std=0.05), Alone(), settings)
        reports = []
        for i in range(method.num_steps):
            reports.append(method.step(i).last)
            if reports[-1]:
                break
        return method, reports

    stopped, reports = run(3e-3)
    full, never = run(0.0)
    assert 5 < len(reports) < 150
    assert reports[-1]
    assert not any(never)
    assert float((stopped.result() - full.result()).norm() / full.result().norm()) < 3e-3
