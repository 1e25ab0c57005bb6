"""Adaptation: what it changes, what it may not see, and on any number of workers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from small_problem import build, phantom, problem, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.config.settings import AdaptationSettings, SamplerSettings
from ddip_ray.errors import InputError
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab


@pytest.mark.parametrize("noise_std", [0.0, 0.2])
@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 4, 6]])
def test_d3ip_is_the_same_volume_on_any_workers(
    prior: DiffusionPrior, edges: list[int], noise_std: float
) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=4, final_cg_iterations=20)
    adaptation = AdaptationSettings(num_adapt_steps=2, num_adapt_slices=3, lora_rank=2, adapt_start_t=999)

    def d3ip(slab: Slab, communicator: Any) -> Tensor:
        own = copy.deepcopy(prior)  # a functional call swaps weights in the module: one a thread
        scan = problem(x, slab, noise_std=noise_std)
        return solve(build("d3ip", scan, own, communicator, sampler=sampler, adaptation=adaptation, seed=3))

    assert (on_workers(edges, d3ip) - d3ip(Slab(0, 6), Alone())).abs().max() <= 1e-5


@pytest.mark.parametrize(("enough", "expected"), [(96, 4), (17, 2), (3, 1)])
def test_many_slices_need_fewer_twins_of_each(prior: DiffusionPrior, enough: int, expected: int) -> None:
    adaptation = {"target_copies": enough, "adapt_start_t": 0, "num_adapt_steps": 1}
    method = build("d3ip", problem(phantom()), prior, sampler={"num_steps": 2}, adaptation=adaptation)
    for i in range(3):
        method.step(i)
    assert method.twins.rescan.num_copies == expected
    assert method.twins.slab == Slab(0, 6)
    assert method.nfe == 2 + 1 + 2 * expected


def test_adaptation_lowers_its_loss_and_changes_the_result(prior: DiffusionPrior) -> None:
    x = phantom()
    # More iterations, and the measurements repair most of what an untrained network spoils.
    sampler = SamplerSettings(num_steps=10, cg_iterations=1, final_cg_iterations=1)
    settings = AdaptationSettings(
        num_adapt_steps=5,
        num_adapt_slices=12,
        learning_rate=3e-3,
        lora_rank=4,
        adapt_start_t=999,
        num_copies=3,
        loss_cg_iterations=1,
    )
    method = build("d3ip", problem(x), prior, sampler=sampler, adaptation=settings)
    losses = [method.step(i).loss for i in range(20)]
    plain = solve(build("dds", problem(x), prior, sampler=sampler))
    assert losses[:10] == [None] * 10
    assert losses[-1] is not None
    assert losses[10] is not None
    assert losses[-1] < 0.7 * losses[10]
    assert (method.result() - plain).abs().max() > 1e-3
    assert method.nfe == 10 + 10 + 3 * 10
    assert method.adapt_nfe == 10 * 5 * 12


@pytest.mark.parametrize("name", ["d3ip", "d3ip-mbir"])
def test_without_an_adapt_step_a_given_adapter_is_used_as_it_is(
    prior: DiffusionPrior, tmp_path: Path, name: str
) -> None:
    adapter = Adapter.create(prior.network, LoraConfig(rank=2), seed=0)
    adapter.add(0.1 * torch.ones(adapter.num_parameters()))
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(adapter.to_bytes(prior.digest))
    adaptation = {"num_adapt_steps": 0, "adapt_start_t": 999, "lora_rank": 2}
    settings = {"sampler": {"num_steps": 4}, "adaptation": adaptation}
    used = build(name, problem(phantom()), prior, adapter=str(path), **settings)
    plain = build(name, problem(phantom()), prior, **settings)
    assert (solve(used) - solve(plain)).abs().max() > 1e-3
    assert torch.equal(used.adapter.flat(), adapter.flat())
    assert used.adapt_nfe == 0


@pytest.mark.parametrize(("asked", "found"), [({"lora_rank": 4}, "2"), ({"lora_scale": 3.0}, "1")])
def test_a_given_adapter_is_of_the_rank_and_scale_that_are_asked_for(
    prior: DiffusionPrior, tmp_path: Path, asked: dict[str, Any], found: str
) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(Adapter.create(prior.network, LoraConfig(rank=2), seed=0).to_bytes(prior.digest))
    (field,) = asked
    with pytest.raises(InputError, match=rf"adapter\.safetensors has .*{field} {found}") as error:
        build("d3ip", problem(phantom()), prior, adapter=str(path), adaptation={"lora_rank": 2, **asked})
    assert error.value.hint is not None
    assert "lora_rank: 2, lora_scale: 1" in error.value.hint


@pytest.mark.parametrize("name", ["dds", "tv"])
def test_an_adapter_needs_a_method_that_adapts(prior: DiffusionPrior, name: str) -> None:
    with pytest.raises(ValidationError, match=f"adapter: goes with d3ip, .*; {name} has none"):
        build(name, problem(phantom()), prior, adapter="a.safetensors")


@pytest.mark.parametrize(("num_adapt_slices", "num_calls"), [(1, 1), (6, 6), (7, 12), (12, 12), (99, 24)])
def test_of_fewer_slices_more_twins_are_drawn(
    prior: DiffusionPrior, num_adapt_slices: int, num_calls: int
) -> None:
    """Six slices, four twins of each."""
    settings = AdaptationSettings(num_adapt_slices=num_adapt_slices, num_adapt_steps=1, adapt_start_t=999)
    method = build("d3ip", problem(phantom()), prior, sampler={"num_steps": 1}, adaptation=settings)
    assert method.adapt_nfe == num_calls


def test_twins_are_judged_from_where_their_last_step_ended(prior: DiffusionPrior) -> None:
    """One CG iteration is then enough for an estimate as in that step."""

    def judged(iterations: int, forget: bool = False) -> float:
        adaptation = {"loss_cg_iterations": iterations, "num_copies": 1, "adapt_start_t": 0}
        d3ip = build("d3ip", problem(phantom()), prior, sampler={"num_steps": 4}, adaptation=adaptation)
        for i in range(6):
            d3ip.step(i)
        twins = d3ip.twins
        estimate = twins.sampler.x0 - twins.added()
        twins.sampler.estimate = lambda i, rows, network: estimate[rows]
        if forget:
            twins.sampler.rule.added = None
        loss = twins.slice_loss(2, range(6), lambda: None, 0)
        return sum(float(loss(z)) for z in range(6))

    exact = judged(200)
    assert abs(judged(1) - exact) < 0.2 * abs(judged(1, forget=True) - exact)


def test_without_updates_it_is_dds(prior: DiffusionPrior) -> None:
    """The second pass starts where the first one's late steps did, with the same noise."""
    sampler = SamplerSettings(num_steps=10, final_cg_iterations=20)  # more would raise the rounding
    plain = build("dds", problem(phantom()), prior, sampler=sampler)
    adaptation = AdaptationSettings(adapt_start_t=300, adapt_end_t=301, num_copies=1)
    d3ip = build("d3ip", problem(phantom()), prior, sampler=sampler, adaptation=adaptation)
    for i in range(10):
        assert d3ip.step(i) == plain.step(i)
    assert torch.equal(d3ip.result(), plain.result())
    residuals = [d3ip.step(i).residual for i in range(10, 20)]
    # Weights with nothing added are called in another way, which rounds differently.
    torch.testing.assert_close(d3ip.result(), plain.result(), atol=5e-3, rtol=0)
    assert residuals[0] == pytest.approx(residuals[-1], rel=0.05)


def test_adaptation_rate_warms_up_and_falls(prior: DiffusionPrior) -> None:
    settings = AdaptationSettings(learning_rate=1e-2, adapt_start_t=999)
    sampler = SamplerSettings(num_steps=10)
    learner = build("d3ip", problem(phantom()), prior, sampler=sampler, adaptation=settings).learner
    rates = []
    while learner.updates < learner.num_updates:
        rates.append(learner.learning_rate())
        learner.updates += 1
    assert learner.num_updates == 80
    assert rates[0] == pytest.approx(2e-3)
    assert max(rates) == rates[4]
    assert rates[-1] == pytest.approx(1e-3, rel=0.3)


def test_too_few_views_are_refused_before_anything_runs(prior: DiffusionPrior) -> None:
    with pytest.raises(InputError, match="4 views from different directions or more, found 3"):
        build("d3ip", problem(phantom(), views=3), prior)
