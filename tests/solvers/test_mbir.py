"""Total variation along z: against a dense solution, slow against fast, and on any number of workers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from small_problem import build, operator, phantom, problem, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.prior.network import DiffusionPrior
from ddip_ray.solvers.communicator import Alone
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.mbir import DiffusionMBIR
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.sampler import Denoised
from ddip_ray.solvers.settings import MBIRSettings, SamplerSettings
from ddip_ray.solvers.slab import Slab


def rule(scan: SlabProblem, prior: DiffusionPrior, **settings: Any) -> DiffusionMBIR:
    dds = DDS(SamplerSettings(cg_iterations=60), prior.schedule, scan)
    return DiffusionMBIR(MBIRSettings(**settings), dds, Alone(), scan)


def start(x: Tensor) -> Denoised:
    return Denoised(10, 9, x, x, x)


@pytest.mark.parametrize("noise_std", [0.0, 0.3])
def test_admm_finds_the_dense_minimum(prior: DiffusionPrior, noise_std: float) -> None:
    """Its dual, min ½ ‖H^(−½)(Dᵀu − b)‖² over |u| ≤ λ, by projected gradients on dense matrices."""
    size, num_slices, lam = 4, 3, 0.02
    generator = torch.Generator().manual_seed(0)
    scan = problem(torch.rand(num_slices, size, size, generator=generator), views=12, noise_std=noise_std)
    x0_hat = torch.rand(num_slices, size, size, generator=generator)
    mbir = rule(scan, prior, lam=lam, rho=0.05, sweeps=250, cold=True)

    n = size**2
    A = operator(size, 12).forward(torch.eye(n).reshape(n, size, size)).reshape(n, -1).T.double()
    weight, gamma = mbir.scale**2, mbir.dds.gamma(10)
    pull = 0.0 if noise_std == 0 else weight / gamma
    H = torch.kron(torch.eye(num_slices), weight * A.T @ A + pull * torch.eye(n)).double()
    b = (weight * scan.y.flatten(1).double() @ A + pull * x0_hat.flatten(1)).flatten()
    step = torch.zeros(num_slices - 1, num_slices, dtype=torch.float64)
    for k in range(num_slices - 1):
        step[k, k], step[k, k + 1] = -1, 1
    D = torch.kron(step, torch.eye(n).double())
    inverse = torch.linalg.inv(H)
    dual = D @ inverse @ D.T
    u, rate = torch.zeros(len(D), dtype=torch.float64), 1 / torch.linalg.matrix_norm(dual, 2)
    for _ in range(5000):
        u = (u - rate * (dual @ u - D @ inverse @ b)).clamp(-lam, lam)
    expected = (inverse @ (b - D.T @ u)).reshape(x0_hat.shape)
    assert float((expected[1:] - expected[:-1]).abs().min()) < 1e-3  # λ is large enough to matter
    torch.testing.assert_close(mbir.consistent(start(x0_hat)).double(), expected, atol=2e-3, rtol=0)


def test_a_copy_is_a_volume_of_its_own(prior: DiffusionPrior) -> None:
    """Slices of copies lie side by side; neighbours along z are those of the same copy."""
    volumes = [phantom(num_slices=4, size=12), phantom(num_slices=4, size=12).flip(0)]
    scans = [problem(x) for x in volumes]
    y = torch.stack([scan.y for scan in scans], dim=1).flatten(0, 1)
    both = SlabProblem(scans[0].operator, y, Slab(0, 8), 8, 0.0, num_copies=2)
    # One CG iteration of both together has one step size; enough of them do not depend on it.
    settings: dict[str, Any] = {"lam": 1e-3, "rho": 1e-2, "sweeps": 3}
    together = rule(both, prior, **settings).consistent(start(torch.zeros(8, 12, 12)))
    for k, scan in enumerate(scans):
        alone = rule(scan, prior, **settings).consistent(start(torch.zeros(4, 12, 12)))
        torch.testing.assert_close(together[k::2], alone, atol=2e-3, rtol=0)


def test_fast_keeps_its_split_and_dual_and_slow_forgets_them(prior: DiffusionPrior) -> None:
    x = phantom(size=12)
    fast, slow = (rule(problem(x), prior, sweeps=2, cold=cold) for cold in (False, True))
    first = [mbir.consistent(start(x)) for mbir in (fast, slow)]
    assert torch.equal(*first)
    assert torch.equal(slow.consistent(start(x)), first[1])
    assert not torch.equal(fast.consistent(start(x)), first[0])


@pytest.mark.parametrize("method", ["diffusionmbir", "d3ip-mbir", "d3ip-mbir by measurements"])
@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 4, 6]])
def test_mbir_is_the_same_volume_on_any_workers(prior: DiffusionPrior, method: str, edges: list[int]) -> None:
    x = phantom()
    adaptation = {"num_adapt_steps": 2, "num_adapt_slices": 3, "lora_rank": 2, "adapt_start_t": 999}
    if method.endswith("measurements"):
        adaptation |= {"judge": "measurements"}
    sampler = SamplerSettings(num_steps=4, cg_iterations=5, quiet_cg_iterations=5)

    def work(slab: Slab, communicator: Any) -> Tensor:
        own = copy.deepcopy(prior)  # a functional call swaps weights in the module: one a thread
        scan = problem(x, slab)
        name = method.split(" ", maxsplit=1)[0]
        return solve(build(name, scan, own, communicator, sampler=sampler, adaptation=adaptation, seed=3))

    assert (on_workers(edges, work) - work(Slab(0, 6), Alone())).abs().max() <= 1e-5
