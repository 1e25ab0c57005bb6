"""Total variation along z: against dense solutions, slow against fast, and on any number of workers."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from scipy.optimize import nnls
from small_problem import build, operator, phantom, problem, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.config.settings import MBIRSettings, SamplerSettings
from ddip_ray.numerics.conjugate_gradient import CGResult, cgls
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.sampling.dds import DDS
from ddip_ray.solvers.sampling.mbir import DiffusionMBIR
from ddip_ray.solvers.sampling.mbir_published import ADMM
from ddip_ray.solvers.sampling.sampler import Denoised, Rule


def rule(scan: SlabProblem, prior: DiffusionPrior, *, image_scale: float = 1.0, **settings: Any) -> Rule:
    dds, mbir = DDS(SamplerSettings(cg_iterations=60), prior.schedule, scan), MBIRSettings(**settings)
    if mbir.admm is None:
        return DiffusionMBIR(mbir, dds, Alone(), scan)
    return ADMM(mbir, mbir.admm, dds, Alone(), scan, image_scale=image_scale)


def start(x: Tensor) -> Denoised:
    return Denoised(200, 199, x, x, x)


def dual_minimum(inverse: Tensor, free: Tensor, lam: float) -> Tensor:
    """argmin ½ Σ (x_z − free_z)ᵀH (x_z − free_z) + λ ‖D_z x‖₁, (z, 4, 4), H⁻¹ and free (z, 16) given.

    By projected gradients on the dual.
    """
    rate = 1 / (4 * torch.linalg.matrix_norm(inverse, 2))
    u = free.new_zeros(len(free) - 1, 16)

    def solution(u: Tensor) -> Tensor:
        """free − H⁻¹ D_zᵀu."""
        edge = torch.zeros_like(u[:1])
        return free - (torch.cat([edge, u]) - torch.cat([u, edge])) @ inverse

    for _ in range(2000):
        u = (u + rate * torch.diff(solution(u), dim=0)).clamp(-lam, lam)
    return solution(u).reshape(-1, 4, 4)


def small_scan(noise_std: float, views: int, num_slices: int = 3) -> tuple[SlabProblem, Tensor, Tensor]:
    """Slices of 4 x 4, another volume to pull to, and A, (views · detectors, 16)."""
    generator = torch.Generator().manual_seed(0)
    scan = problem(torch.rand(num_slices, 4, 4, generator=generator), views=views, noise_std=noise_std)
    A = operator(4, views).forward(torch.eye(16).reshape(16, 4, 4)).reshape(16, -1).T.double()
    return scan, torch.rand(num_slices, 4, 4, generator=generator), A


def dense_minimum(
    scan: SlabProblem, x0_hat: Tensor, A: Tensor, gamma: float, theta: float
) -> tuple[Tensor, Tensor]:
    """With total variation and without, (z, 4, 4) both."""
    if math.isinf(gamma):
        inverse = torch.eye(16).double() - torch.linalg.pinv(A, rtol=1e-5) @ A
        fixed = scan.y.flatten(1).double() @ torch.linalg.pinv(A, rtol=1e-5).T
    else:
        inverse = torch.linalg.inv(gamma * A.T @ A + torch.eye(16))
        fixed = gamma * scan.y.flatten(1).double() @ A @ inverse
    without = fixed + x0_hat.flatten(1).double() @ inverse
    return dual_minimum(inverse, without, theta), without.reshape(-1, 4, 4)


@pytest.mark.parametrize(("noise_std", "views"), [(0.0, 2), (0.0, 12), (0.3, 12)])
def test_sweeps_find_the_dense_minimum(prior: DiffusionPrior, noise_std: float, views: int) -> None:
    """Clean data leave only what they do not see to choose: H⁻¹ becomes the projection onto it."""
    weight, sigma = 0.1, math.sqrt(1 / prior.schedule.at(200) - 1)
    scan, x0_hat, A = small_scan(noise_std, views)
    gamma = DDS(SamplerSettings(), prior.schedule, scan).gamma(200)
    expected, without = dense_minimum(scan, x0_hat, A, gamma, weight)
    got = rule(scan, prior, weight=weight / sigma, sweeps=24, tol=0, cold=True).consistent(start(x0_hat))
    # Views that show everything leave total variation nothing to choose.
    changed = float((got - without).abs().max())
    assert changed < 2e-3 if (noise_std, views) == (0.0, 12) else changed > 0.01
    torch.testing.assert_close(got.double(), expected, atol=2e-3, rtol=0)


@pytest.fixture
def corrections(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each data consistency of a sweep."""
    calls: list[int] = []
    correction = DDS.correction

    def counted(*args: Any) -> Tensor:
        calls.append(1)
        return correction(*args)

    monkeypatch.setattr(DDS, "correction", counted)
    return calls


def test_sweeps_end_when_they_are_as_near_as_asked(prior: DiffusionPrior, corrections: list[int]) -> None:
    theta, sigma = 0.1, math.sqrt(1 / prior.schedule.at(200) - 1)
    scan, x0_hat, A = small_scan(0.0, views=2)
    expected, _ = dense_minimum(scan, x0_hat, A, math.inf, theta)

    def distance(tol: float) -> tuple[float, int]:
        corrections.clear()
        mbir = rule(scan, prior, weight=theta / sigma, sweeps=400, tol=tol, cold=True)
        away = mbir.consistent(start(x0_hat)).double() - expected
        return float(away.square().mean().sqrt()) / theta, len(corrections)

    (loose, few), (tight, more) = distance(0.1), distance(0.005)
    assert tight < loose < 0.1
    assert tight < 0.005
    assert 1 < few < more < 400


def test_a_great_weight_takes_some_hundred_sweeps(prior: DiffusionPrior, corrections: list[int]) -> None:
    """It flattens all of the volume, along which news goes by a slice a sweep; 342 without momentum."""
    theta, sigma = 3.0, math.sqrt(1 / prior.schedule.at(200) - 1)
    scan, x0_hat, _ = small_scan(0.0, views=2, num_slices=12)
    rule(scan, prior, weight=theta / sigma, sweeps=400, cold=True).consistent(start(x0_hat))
    assert 50 < len(corrections) < 170


def test_quiet_steps_find_the_dense_minimum_above_zero(prior: DiffusionPrior) -> None:
    """Of an estimate that stays as it is; total variation's dual and the constraint's move together."""
    theta, sigma = 0.1, math.sqrt(1 / prior.schedule.at(60) - 1)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 4, 4, generator=generator) * (torch.rand(3, 4, 4, generator=generator) > 0.5)
    mbir = build("diffusionmbir", problem(x, views=2), prior, mbir={"weight": theta / sigma})
    low = mbir.low
    x0_hat = low + torch.rand(3, 4, 4, generator=generator)
    for _ in range(3000):
        x0 = mbir.consistent(Denoised(60, 50, x0_hat, x0_hat, x0_hat))

    # Non-negative least squares in x − low and both parts of D_z x = up − down, whose sum costs θ.
    A = operator(4, 2).forward(torch.eye(16).reshape(16, 4, 4)).reshape(16, -1).T.double()
    D_z = torch.zeros(32, 48).double()
    D_z[torch.arange(32), torch.arange(32)], D_z[torch.arange(32), torch.arange(16, 48)] = -1, 1
    exact, slight = 1e3, 1e-2  # as good as infinite, and as nothing
    A_all, nothing, either = torch.block_diag(A, A, A), torch.zeros(32), torch.eye(64).double()
    rows = torch.cat(
        [
            torch.cat([exact * A_all, torch.zeros(len(A_all), 64)], 1),
            torch.cat([exact * D_z, -exact * either[:32] + exact * either[32:]], 1),
            torch.cat([torch.eye(48), torch.zeros(48, 64)], 1),
            torch.cat([torch.zeros(64, 48), slight * either], 1),
        ]
    )
    clean = mbir.problem.y.flatten().double() - low * A_all.sum(1)
    cost = torch.full((64,), -theta / slight)
    above, _ = nnls(rows.numpy(), torch.cat([exact * clean, nothing, x0_hat.flatten() - low, cost]).numpy())
    assert (above[:48] == 0).sum() > 5  # both terms matter
    assert (above[48:].reshape(2, 32).max(0) == 0).sum() > 2
    expected = low + torch.from_numpy(above[:48]).reshape(3, 4, 4).float()
    torch.testing.assert_close(x0, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("noise_std", [0.0, 0.3])
def test_admm_finds_the_dense_minimum(prior: DiffusionPrior, noise_std: float) -> None:
    lam = 0.02
    scan, x0_hat, A = small_scan(noise_std, views=12)
    mbir = rule(scan, prior, admm={"lam": lam, "rho": 0.05}, sweeps=250, tol=0, cold=True)
    assert isinstance(mbir, ADMM)
    scale, gamma = mbir.scale**2, mbir.dds.gamma(200)
    pull = 0.0 if noise_std == 0 else scale / gamma
    inverse = torch.linalg.inv(scale * A.T @ A + pull * torch.eye(16))
    b = scale * scan.y.flatten(1).double() @ A + pull * x0_hat.flatten(1)
    expected = dual_minimum(inverse, b @ inverse, lam)
    assert float((expected[1:] - expected[:-1]).abs().min()) < 1e-3  # λ is large enough to matter
    torch.testing.assert_close(mbir.consistent(start(x0_hat)).double(), expected, atol=2e-3, rtol=0)


def test_admm_ends_when_its_residuals_are_small(
    prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, x0_hat, _ = small_scan(0.0, views=12)
    calls: list[int] = []

    def counted(*args: Any, **keywords: Any) -> CGResult:
        calls.append(1)
        return cgls(*args, **keywords)

    monkeypatch.setattr("ddip_ray.solvers.sampling.mbir_published.cgls", counted)

    def solved(tol: float) -> tuple[Tensor, int]:
        calls.clear()
        settings = {"admm": {"lam": 0.02, "rho": 0.05}, "sweeps": 1000, "tol": tol, "cold": True}
        return rule(scan, prior, **settings).consistent(start(x0_hat)), len(calls)

    (exact, _), (loose, few), (tight, more) = solved(1e-6), solved(0.1), solved(0.01)
    assert 1 < few < more < 1000
    assert float((tight - exact).norm()) < float((loose - exact).norm())


def test_admm_does_not_depend_on_the_range_of_the_prior(prior: DiffusionPrior) -> None:
    scan, x0_hat, _ = small_scan(0.0, views=12)
    settings: dict[str, Any] = {"admm": {"lam": 0.02, "rho": 0.05}, "sweeps": 5}
    plain = rule(scan, prior, **settings).consistent(start(x0_hat))
    ranged = rule(scan.in_image_range(-1, 1), prior, image_scale=2.0, **settings)
    torch.testing.assert_close(ranged.consistent(start(2 * x0_hat - 1)), 2 * plain - 1, atol=1e-5, rtol=0)


ADMM_SETTINGS = {"admm": {"lam": 1e-3, "rho": 1e-2}}


@pytest.mark.parametrize("settings", [{"weight": 0.02}, ADMM_SETTINGS])
def test_fast_goes_on_where_it_was_and_slow_begins_anew(
    prior: DiffusionPrior, settings: dict[str, Any]
) -> None:
    x = phantom(size=12)
    fast, slow = (rule(problem(x, views=4), prior, sweeps=2, cold=cold, **settings) for cold in (False, True))
    first = [mbir.consistent(start(0 * x)) for mbir in (fast, slow)]
    assert torch.equal(*first)
    assert torch.equal(slow.consistent(start(0 * x)), first[1])
    assert not torch.equal(fast.consistent(start(0 * x)), first[0])


METHODS: dict[str, dict[str, Any]] = {
    "diffusionmbir": {"method": "diffusionmbir"},
    "diffusionmbir slow": {"method": "diffusionmbir", "mbir": {"cold": True, "sweeps": 40, "tol": 0.3}},
    "diffusionmbir-admm": {"method": "diffusionmbir", "mbir": ADMM_SETTINGS},
    "d3ip-mbir": {"method": "d3ip-mbir"},
    "d3ip-mbir by measurements": {"method": "d3ip-mbir", "adaptation": {"loss": "measurements"}},
}


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 4, 6]])
def test_mbir_is_the_same_volume_on_any_workers(prior: DiffusionPrior, name: str, edges: list[int]) -> None:
    x, config = phantom(), METHODS[name]
    adaptation = {"num_adapt_steps": 2, "num_adapt_slices": 3, "lora_rank": 2, "adapt_start_t": 999}
    sampler = SamplerSettings(num_steps=4, cg_iterations=5, final_cg_iterations=5)
    settings: dict[str, Any] = {
        "sampler": sampler,
        "adaptation": adaptation | config.get("adaptation", {}),
        "mbir": config.get("mbir", {}),
    }

    def work(slab: Slab, communicator: Any) -> Tensor:
        own = copy.deepcopy(prior)  # a functional call swaps weights in the module: one a thread
        return solve(build(config["method"], problem(x, slab), own, communicator, seed=3, **settings))

    assert (on_workers(edges, work) - work(Slab(0, 6), Alone())).abs().max() <= 1e-5


def test_a_run_of_neighbours_teaches_what_it_would_as_one_batch(prior: DiffusionPrior) -> None:
    """The shares of its slices against the gradient through the coupled data consistency itself."""
    sampler = {"num_steps": 4, "cg_iterations": 5, "final_cg_iterations": 5}
    adaptation = {"loss": "measurements", "lora_rank": 2, "adapt_start_t": 999, "loss_cg_iterations": 3}
    method = build("d3ip-mbir", problem(phantom()), prior, sampler=sampler, adaptation=adaptation)
    adapter, judge, run = method.learner.adapter, method.judge, [1, 2, 3]
    adapter.add(0.05 * torch.randn(adapter.num_parameters(), generator=torch.Generator().manual_seed(0)))
    parameters = list(adapter.parameters.values())

    def network() -> Any:
        return adapter.bind(prior.network)

    def gradient(loss: Tensor) -> Tensor:
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])

    loss_of = judge.slice_loss(0, run, network, 0)
    shares = [loss_of(z) for z in run]
    scan = method.sampler.problem
    whole = judge.loss(0, method.sampler.estimate(0, run, network()), scan.only(scan.y[run]))
    for share in shares:
        torch.testing.assert_close(share, whole, rtol=1e-4, atol=0)
    expected, got = gradient(whole), sum(gradient(share) for share in shares) / len(run)
    assert float((got - expected).norm() / expected.norm()) < 0.01
