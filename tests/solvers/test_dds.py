"""DDS against known answers, and on any number of workers."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import nnls
from small_problem import build, operator, phantom, problem, solve
from torch import Tensor
from workers import Member, on_workers

from ddip_ray.config.settings import SamplerSettings
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.sampling.sampler import Denoised


def test_dds_with_an_exact_prior_and_full_data_is_exact() -> None:
    """A denoiser that knows the image, and one that knows nothing: the data decide where they can."""
    x = phantom()
    torch.manual_seed(0)

    class Oracle:
        image_range, schedule, digest, micro_batch = (-1.0, 1.0), NoiseSchedule.linear(), "", len(x)
        num_channels = 1

        def network_forward(self, x: Tensor, t: Tensor) -> Tensor:
            raise AssertionError("an oracle asks no network")

        def denoise(self, x_t: Tensor, t: int, network: object = None) -> tuple[Tensor, Tensor]:
            alpha_bar = self.schedule.at(t)
            x0 = (2 * x)[: len(x_t)] - 1
            return x0, (x_t - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5

    p = problem(x, views=10)
    sampler = SamplerSettings(num_steps=4)
    result = solve(build("dds", p, Oracle(), sampler=sampler))  # type: ignore[arg-type]
    torch.testing.assert_close(result, x, atol=1e-4, rtol=0)


def test_dds_is_noisy_above_quiet_t_and_the_bare_estimate_below(prior: DiffusionPrior) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=6, noise_free_below_t=100)
    dds, other = (build("dds", problem(x), prior, sampler=sampler, seed=seed) for seed in (0, 1))
    for i in range(dds.num_steps):
        other.x_t = dds.x_t
        dds.step(i)
        other.step(i)
        t = dds.timesteps[i + 1] if i + 1 < dds.num_steps else -1
        bare = prior.schedule.at(t) ** 0.5 * dds.x0
        if t <= sampler.noise_free_below_t:
            torch.testing.assert_close(dds.x_t, bare, rtol=0, atol=0)
        else:
            noise = (dds.x_t - bare) / (1 - prior.schedule.at(t)) ** 0.5
            assert noise.std() == pytest.approx(1, abs=0.1)
            assert not torch.equal(other.x_t, dds.x_t)  # another seed, another sample


def test_nothing_is_below_nothing_unless_allowed(prior: DiffusionPrior) -> None:
    """An untrained prior's images are; data consistency alone would leave a part of it."""
    cut, free = (
        build("dds", problem(phantom(), views=5), prior, sampler={"num_steps": 3, "nonnegative": cut})
        for cut in (True, False)
    )
    low = prior.image_range[0]
    assert float(cut.denoise(0, prior.network_forward)[0].min()) == low
    assert float(free.denoise(0, prior.network_forward)[0].min()) < low
    assert float(solve(cut).min()) == 0
    assert float(solve(free).min()) < 0


def test_quiet_steps_find_the_nearest_image_above_zero(prior: DiffusionPrior) -> None:
    """argmin ‖x − x0_hat‖² subject to A x = y and x ≥ 0, of an estimate that stays as it is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 4, 4, generator=generator) * (torch.rand(2, 4, 4, generator=generator) > 0.5)
    dds = build("dds", problem(x, views=2), prior)
    x0_hat = dds.low + torch.rand(2, 4, 4, generator=generator)
    for _ in range(3000):
        x0 = dds.consistent(Denoised(60, 50, x0_hat, x0_hat, x0_hat))

    A = operator(4, 2).forward(torch.eye(16).reshape(16, 4, 4)).reshape(16, -1).T
    weight = 1e3  # as good as infinite
    rows = torch.cat([weight * A, torch.eye(16)]).double()
    for z in range(2):
        targets = torch.cat([weight * dds.problem.y[z].flatten(), x0_hat[z].flatten()]).double()
        above, _ = nnls(rows.numpy(), (targets - dds.low * rows.sum(1)).numpy())
        assert (above == 0).sum() > 2  # the constraint matters
        expected = dds.low + torch.from_numpy(above).reshape(4, 4).float()
        torch.testing.assert_close(x0[z], expected, atol=1e-3, rtol=0)


def test_data_with_noise_may_be_met_below_zero(prior: DiffusionPrior) -> None:
    dds = build("dds", problem(phantom(), noise_std=0.1), prior, sampler={"num_steps": 3})
    solve(dds)
    assert dds.multiplier is None
    assert float(dds.x0.min()) < dds.low


def test_each_step_sees_another_orientation(prior: DiffusionPrior) -> None:
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x[0, 0].detach().clone())
        return torch.zeros_like(x)

    for self_ensemble, different in ((True, 8), (False, 1)):
        sampler = SamplerSettings(num_steps=10, self_ensemble=self_ensemble)
        dds = build("dds", problem(phantom(num_slices=1)), prior, sampler=sampler)
        start, seen = dds.x_t, []
        for i in range(10):
            dds.x_t = start
            dds.advance(i, network)
        assert len({tuple(x.flatten().tolist()) for x in seen}) == different
        assert torch.equal(seen[0], seen[8])


@pytest.mark.parametrize("noise_std", [0.0, 0.2])
@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 4, 6]])
def test_dds_is_the_same_volume_on_any_workers_to_the_bit(
    prior: DiffusionPrior, edges: list[int], noise_std: float
) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=5, anchor_distance=4)

    def work(slab: Slab, member: Member) -> Tensor:
        return solve(
            build("dds", problem(x, slab, noise_std=noise_std), prior, member, sampler=sampler, seed=3)
        )

    alone = solve(build("dds", problem(x, noise_std=noise_std), prior, sampler=sampler, seed=3))
    assert torch.equal(on_workers(edges, work), alone)
