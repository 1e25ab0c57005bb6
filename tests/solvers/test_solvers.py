"""Noise keys, coupling of slabs, and each method against a known answer."""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.operators.geometry import ParallelBeamGeometry
from ddip_ray.operators.parallel_beam import ParallelBeam
from ddip_ray.prior.network import DiffusionPrior, NetworkConfig, build_network
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.classical import CG, FBP
from ddip_ray.solvers.communicator import Alone
from ddip_ray.solvers.coupling import SliceCoupling
from ddip_ray.solvers.d3ip import D3IP, held_out
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.method import Method
from ddip_ray.solvers.noise import key, slab_noise
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.settings import (
    AdaptationSettings,
    CGSettings,
    FBPSettings,
    SamplerSettings,
    TVSettings,
)
from ddip_ray.solvers.slab import Slab
from ddip_ray.solvers.steps import data_consistency, move_on
from ddip_ray.solvers.total_variation import TotalVariation


class Threads:
    """A communicator between threads of one process: the real protocol, without processes."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.barrier = threading.Barrier(world_size, timeout=60)
        self.board: list[Any] = [None] * world_size

    def share(self, rank: int, value: Any) -> list[Any]:
        self.board[rank] = value
        self.barrier.wait()
        every = list(self.board)
        self.barrier.wait()
        return every

    def member(self, rank: int) -> Member:
        return Member(self, rank)


class Member:
    def __init__(self, group: Threads, rank: int) -> None:
        self.group, self.rank, self.world_size = group, rank, group.world_size

    def all_reduce(self, tensor: Tensor) -> Tensor:
        parts = self.group.share(self.rank, tensor.clone())
        return tensor.copy_(sum(parts[1:], start=parts[0]))

    def exchange_halo(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        ends = self.group.share(self.rank, (x[0].clone(), x[-1].clone()))
        before = ends[self.rank - 1][1] if self.rank > 0 else None
        after = ends[self.rank + 1][0] if self.rank < self.world_size - 1 else None
        return before, after


def on_workers(edges: list[int], work: Callable[[Slab, Member], Tensor]) -> Tensor:
    """Run ``work`` on a thread for each slab between ``edges``; the slabs' results put together."""
    group = Threads(len(edges) - 1)
    results: list[Tensor | BaseException] = [torch.empty(0)] * group.world_size

    def run(rank: int) -> None:
        try:
            results[rank] = work(Slab(edges[rank], edges[rank + 1]), group.member(rank))
        except BaseException as error:
            results[rank] = error
            group.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(group.world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return torch.cat(results)  # type: ignore[arg-type]


def phantom(num_slices: int = 6, size: int = 24) -> Tensor:
    c = torch.linspace(-1, 1, size)
    z = torch.linspace(0, 1, num_slices)[:, None, None]
    body = (c[:, None] ** 2 + 1.3 * c**2 < 0.7).float()
    hole = ((c[:, None] - 0.3 * z + 0.1) ** 2 + (c + 0.2) ** 2 < 0.08).float()
    return 0.7 * body - 0.4 * hole * body


def operator(size: int = 24, views: int = 20) -> ParallelBeam:
    detectors = math.ceil(1.5 * size)
    angles = [math.pi * i / views for i in range(views)]
    return ParallelBeam(
        ParallelBeamGeometry((size, size), tuple(angles), detectors, 1.0, 1.0, (detectors - 1) / 2)
    )


def problem(x: Tensor, slab: Slab | None = None, views: int = 20, noise_std: float = 0.0) -> SlabProblem:
    slab = slab or Slab(0, len(x))
    A = operator(x.shape[-1], views)
    noise = torch.stack(
        [torch.randn(A.measurement_shape, generator=torch.Generator().manual_seed(z)) for z in range(len(x))]
    )
    y = A.forward(x) + noise_std * noise
    return SlabProblem(A, y[slab.start : slab.stop], slab, len(x), noise_std)


def psnr(result: Tensor, x: Tensor) -> float:
    return -10 * math.log10(float((result - x).square().mean()))


def solve(method: Method) -> Tensor:
    for i in range(method.num_steps):
        report = method.step(i)
    assert math.isfinite(report.residual)
    return method.result()


@pytest.fixture(scope="module")
def prior() -> DiffusionPrior:
    torch.manual_seed(0)
    config = NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8)
    return DiffusionPrior(build_network(config), NoiseSchedule.linear(), "v_prediction", digest="0" * 64)


# Noise -------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 7), st.data())
@settings(max_examples=30, deadline=None)
def test_noise_does_not_know_the_slab(num_slices: int, anchor_distance: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, num_slices - 1))
    stop = data.draw(st.integers(start + 1, num_slices))
    whole = slab_noise(Slab(0, num_slices), (3, 5), 7, 2, anchor_distance=anchor_distance)
    part = slab_noise(Slab(start, stop), (3, 5), 7, 2, anchor_distance=anchor_distance)
    assert torch.equal(whole[start:stop], part)


@pytest.mark.parametrize("anchor_distance", [1, 4])
def test_noise_is_unit_normal_in_every_slice(anchor_distance: int) -> None:
    noise = slab_noise(Slab(0, 9), (128, 128), 0, 0, anchor_distance=anchor_distance)
    assert noise.mean(dim=(1, 2)).abs().max() < 0.03
    assert (noise.std(dim=(1, 2)) - 1).abs().max() < 0.03


def test_anchored_noise_is_alike_in_neighbours_only() -> None:
    noise = slab_noise(Slab(0, 9), (128, 128), 0, 0, anchor_distance=4)
    correlation = torch.corrcoef(noise.flatten(1))
    assert correlation[0, 1] == pytest.approx(math.cos(math.pi / 8), abs=0.02)
    assert correlation[0, 8].abs() < 0.03


def test_keys_are_all_different() -> None:
    keys = {key(seed, step, z) for seed in range(10) for step in range(20) for z in range(20)}
    assert len(keys) == 4000


# Coupling ----------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_coupling_is_that_of_the_whole_volume_to_the_bit(sizes: list[int]) -> None:
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    n = edges[-1]
    x = torch.randn(n, 4, 5, generator=torch.Generator().manual_seed(0))
    d = torch.randn(n, 4, 5, generator=torch.Generator().manual_seed(1))
    whole = SliceCoupling(Alone(), Slab(0, n), n)

    def work(slab: Slab, member: Member) -> Tensor:
        own = slice(slab.start, slab.stop)
        coupling = SliceCoupling(member, slab, n)
        forward, adjoint = coupling.difference(x[own]), coupling.difference_adjoint(d[own])
        dot = coupling.dot(x[own], d[own]).expand(len(slab), 4, 5)
        return torch.stack([forward, adjoint, dot], dim=1)

    parts = on_workers(edges, work)
    assert torch.equal(parts[:, 0], whole.difference(x))
    assert torch.equal(parts[:, 1], whole.difference_adjoint(d))
    assert torch.equal(parts[0, 2, 0, 0], whole.dot(x, d)[0])


def test_slice_difference_is_clipped_and_its_adjoint_exact() -> None:
    coupling = SliceCoupling(Alone(), Slab(0, 5), 5)
    x, d = torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(5, 3, 4, dtype=torch.float64)
    assert torch.equal(coupling.difference(x)[:-1], x[1:] - x[:-1])
    assert not coupling.difference(x)[-1].any()
    left, right = (coupling.difference(x) * d).sum(), (x * coupling.difference_adjoint(d)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)


# The parts of a step ------------------------------------------------------------------------------


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


# Methods -----------------------------------------------------------------------------------------


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
        misfit = 0.5 * method.weight * (p.operator.forward(v) - p.y).square().sum()
        g = method.gradient(v)
        return float(misfit + method.lam * torch.sqrt(g[0] ** 2 + g[1] ** 2 + g[2] ** 2).sum())

    best = objective(solution)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-1, 1e-2):
        for _ in range(20):
            moved = (solution + size * torch.randn(solution.shape, generator=generator)).clamp_min(0)
            assert objective(moved) > best
    assert best < objective(x)


def test_dds_with_an_exact_prior_and_full_data_is_exact() -> None:
    """A denoiser that knows the image, and one that knows nothing: the data decide where they can."""
    x = phantom()
    torch.manual_seed(0)

    class Oracle:
        image_range, schedule = (-1.0, 1.0), NoiseSchedule.linear()

        def denoise(self, x_t: Tensor, t: int, network: object = None) -> tuple[Tensor, Tensor]:
            alpha_bar = self.schedule.at(t)
            x0 = (2 * x)[: len(x_t)] - 1
            return x0, (x_t - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5

    p = problem(x, views=10)
    sampler = SamplerSettings(num_steps=4, micro_batch=len(x))
    result = solve(DDS(p, Alone(), Oracle(), sampler, 0))  # type: ignore[arg-type]
    torch.testing.assert_close(result, x, atol=1e-4, rtol=0)


def test_dds_is_noisy_above_quiet_t_and_the_bare_estimate_below(prior: DiffusionPrior) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=6, micro_batch=2, quiet_t=100)
    dds, other = (DDS(problem(x), Alone(), prior, sampler, seed) for seed in (0, 1))
    for i in range(dds.num_steps):
        dds.step(i)
        t = dds.timesteps[i + 1] if i + 1 < dds.num_steps else -1
        bare = prior.schedule.at(t) ** 0.5 * dds.x0
        other.x0 = dds.x0
        if t <= sampler.quiet_t:
            torch.testing.assert_close(dds.x_t, bare, rtol=0, atol=0)
        else:
            noise = (dds.x_t - bare) / (1 - prior.schedule.at(t)) ** 0.5
            assert noise.std() == pytest.approx(1, abs=0.1)
            assert not torch.equal(other.next_x_t(i + 1, dds.x0), dds.x_t)  # another seed, another sample


@pytest.mark.parametrize("noise_std", [0.0, 0.2])
@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 4, 6]])
def test_dds_is_the_same_volume_on_any_workers_to_the_bit(
    prior: DiffusionPrior, edges: list[int], noise_std: float
) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=5, micro_batch=2, anchor_distance=4)

    def work(slab: Slab, member: Member) -> Tensor:
        return solve(DDS(problem(x, slab, noise_std=noise_std), member, prior, sampler, 3))

    alone = solve(DDS(problem(x, noise_std=noise_std), Alone(), prior, sampler, 3))
    assert torch.equal(on_workers(edges, work), alone)


@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 4, 6]])
def test_d3ip_and_tv_are_the_same_volume_on_any_workers(prior: DiffusionPrior, edges: list[int]) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=4, micro_batch=2)
    adaptation = AdaptationSettings(num_adapt_steps=2, num_adapt_slices=3, lora_rank=2, adapt_start_t=999)

    def d3ip(slab: Slab, communicator: Any) -> Tensor:
        own = copy.deepcopy(prior)  # a functional call swaps weights in the module: one a thread
        return solve(D3IP(DDS(problem(x, slab), communicator, own, sampler, 3), adaptation))

    def tv(slab: Slab, communicator: Any) -> Tensor:
        return solve(TotalVariation(problem(x, slab), communicator, TVSettings(iterations=10)))

    for work in (d3ip, tv):
        alone = work(Slab(0, 6), Alone())
        assert (on_workers(edges, work) - alone).abs().max() <= 1e-5


@pytest.mark.parametrize("hold_out_every", [0, 4])
def test_adaptation_lowers_its_loss_and_changes_the_result(
    prior: DiffusionPrior, hold_out_every: int
) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=10, micro_batch=2)
    settings = AdaptationSettings(
        num_adapt_steps=5,
        learning_rate=3e-3,
        adapt_start_t=999,
        hold_out_every=hold_out_every,
        loss_cg_iterations=0,  # else the measurements repair most of what an untrained network spoils
    )
    method = D3IP(DDS(problem(x), Alone(), prior, sampler, 0), settings)
    losses = [method.step(i).loss for i in range(10)]
    plain = solve(DDS(problem(x), Alone(), prior, sampler, 0))
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < 0.7 * losses[0]
    assert (method.result() - plain).abs().max() > 1e-3
    assert method.nfe == (20 if hold_out_every else 10)
    assert method.adapt_nfe == 10 * 5 * 4


def test_the_twin_never_sees_what_judges_it(prior: DiffusionPrior) -> None:
    """Garbage in the held-out views changes the adapter's loss, and nothing in the twin before it."""
    x = phantom()
    sampler = SamplerSettings(num_steps=4, micro_batch=2)
    settings = AdaptationSettings(adapt_start_t=0, num_adapt_steps=1, hold_out_every=4)
    clean = problem(x)
    spoiled = dataclasses.replace(clean, y=clean.y + 5 * held_out(clean.slab, 20, 4))
    methods = [D3IP(DDS(p, Alone(), prior, sampler, 0), settings) for p in (clean, spoiled)]
    for i in range(3):
        for method in methods:
            method.step(i)
    assert torch.equal(methods[0].twin.x_t, methods[1].twin.x_t)
    assert not torch.equal(methods[0].dds.x_t, methods[1].dds.x_t)
    assert methods[0].slice_loss(3, 0) != methods[1].slice_loss(3, 0)


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_held_out_views(every: int) -> None:
    if every == 1:
        with pytest.raises(InputError, match="hold_out_every is 1, expected 2 to 5 for 10 views"):
            held_out(Slab(0, 4), 10, every)
        return
    whole = held_out(Slab(0, 12), 10, every)
    assert whole.shape == (12, 10, 1)
    assert torch.equal(whole[4:9], held_out(Slab(4, 9), 10, every))
    share = whole.mean(dim=(1, 2))
    assert share.min() >= 1 / every - 0.1
    assert share.max() <= 1 / every + 0.1
    assert every == 2 or not torch.equal(whole[0], whole[1])
    with pytest.raises(InputError, match="hold_out_every is 5, expected 2 to 4 for 9 views"):
        held_out(Slab(0, 1), 9, 5)


def test_adaptation_rate_warms_up_and_falls(prior: DiffusionPrior) -> None:
    settings = AdaptationSettings(learning_rate=1e-2, final_learning_rate=1e-3, adapt_start_t=999)
    method = D3IP(DDS(problem(phantom()), Alone(), prior, SamplerSettings(num_steps=10), 0), settings)
    rates = [method.learning_rate(k) for k in range(method.num_updates)]
    assert method.num_updates == 40
    assert rates[0] == pytest.approx(2e-3)
    assert max(rates) == rates[4]
    assert rates[-1] == pytest.approx(1e-3, rel=0.3)
