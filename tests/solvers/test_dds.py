"""DDS against known answers."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import nnls
from small_problem import build, operator, phantom, problem, solve
from torch import Tensor

from ddip_ray.config.settings import SamplerSettings
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.sampling.nonnegativity import MULTIPLIER


def test_dds_with_an_exact_prior_and_full_data_is_exact() -> None:
    """A denoiser that knows the image, and one that knows nothing: the data decide where they can."""
    x = phantom()
    torch.manual_seed(0)

    class Oracle:
        image_range, schedule, micro_batch = (-1.0, 1.0), NoiseSchedule.linear(), len(x)

        def denoise(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
            alpha_bar = self.schedule.at(t)
            x0 = (2 * x)[: len(x_t)] - 1
            return x0, (x_t - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5

    p = problem(x, views=10)
    sampler = SamplerSettings(num_steps=4, self_ensemble=False)
    result = solve(build("dds", p, Oracle(), sampler=sampler))
    torch.testing.assert_close(result, x, atol=1e-4, rtol=0)


def test_dds_adds_noise_down_to_noise_free_below_t(prior: DiffusionPrior) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=6, noise_free_below_t=100)
    dds, other = (build("dds", problem(x), prior, sampler=sampler, seed=seed) for seed in (0, 1))
    for i in range(dds.num_steps):
        other.state = dds.state
        dds.step(i)
        other.step(i)
        t = dds.sampler.timesteps[i + 1] if i + 1 < dds.num_steps else -1
        bare = prior.schedule.at(t) ** 0.5 * dds.state.x0
        if t <= sampler.noise_free_below_t:
            torch.testing.assert_close(dds.state.x_t, bare, rtol=0, atol=0)
        else:
            noise = (dds.state.x_t - bare) / (1 - prior.schedule.at(t)) ** 0.5
            assert noise.std() == pytest.approx(1, abs=0.1)
            assert not torch.equal(other.state.x_t, dds.state.x_t)  # another seed, another sample


def test_nothing_is_below_nothing_unless_allowed(prior: DiffusionPrior) -> None:
    """An untrained prior's images are; data consistency alone would leave a part of it."""
    cut, free = (
        build("dds", problem(phantom(), views=5), prior, sampler={"num_steps": 3, "nonnegative": cut})
        for cut in (True, False)
    )
    low = prior.image_range[0]
    assert float(cut.sampler.denoise(cut.state.x_t, 0)[0].min()) == low
    assert float(free.sampler.denoise(free.state.x_t, 0)[0].min()) < low
    assert float(solve(cut).min()) == 0
    assert float(solve(free).min()) < 0


def test_noise_free_steps_find_the_nearest_image_above_zero(prior: DiffusionPrior) -> None:
    """argmin ‖x − x0_hat‖² subject to A x = y and x ≥ 0, of an estimate that stays as it is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 4, 4, generator=generator) * (torch.rand(2, 4, 4, generator=generator) > 0.5)
    dds, carried = build("dds", problem(x, views=2), prior).sampler, {}
    x0_hat = dds.low + torch.rand(2, 4, 4, generator=generator)
    for _ in range(3000):
        x0, carried = dds.data_consistency.apply(x0_hat, 60, 50, carried)

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
    assert MULTIPLIER not in dds.state.carried
    assert float(dds.state.x0.min()) < dds.sampler.low


def test_each_step_sees_another_orientation(prior: DiffusionPrior) -> None:
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x[0, 0].detach().clone())
        return torch.zeros_like(x)

    for self_ensemble, different in ((True, 8), (False, 1)):
        sampler = SamplerSettings(num_steps=10, self_ensemble=self_ensemble)
        dds = build("dds", problem(phantom(num_slices=1)), prior, sampler=sampler)
        seen = []
        for i in range(10):
            dds.sampler.step(dds.state, i, network)
        assert len({tuple(x.flatten().tolist()) for x in seen}) == different
        assert torch.equal(seen[0], seen[8])
