"""Adaptation: what it changes, what it may not see, and on any number of workers."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from small_problem import phantom, problem, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.prior.network import DiffusionPrior
from ddip_ray.solvers.communicator import Alone
from ddip_ray.solvers.d3ip import D3IP
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.held_out import held_out_views
from ddip_ray.solvers.settings import AdaptationSettings, SamplerSettings
from ddip_ray.solvers.slab import Slab


@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 4, 6]])
def test_d3ip_is_the_same_volume_on_any_workers(prior: DiffusionPrior, edges: list[int]) -> None:
    x = phantom()
    sampler = SamplerSettings(num_steps=4, micro_batch=2)
    adaptation = AdaptationSettings(num_adapt_steps=2, num_adapt_slices=3, lora_rank=2, adapt_start_t=999)

    def d3ip(slab: Slab, communicator: Any) -> Tensor:
        own = copy.deepcopy(prior)  # a functional call swaps weights in the module: one a thread
        return solve(D3IP(DDS(problem(x, slab), communicator, own, sampler, 3), adaptation))

    assert (on_workers(edges, d3ip) - d3ip(Slab(0, 6), Alone())).abs().max() <= 1e-5


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
    spoiled = dataclasses.replace(clean, y=clean.y + 5 * held_out_views(clean.slab, 20, 4))
    methods = [D3IP(DDS(p, Alone(), prior, sampler, 0), settings) for p in (clean, spoiled)]
    for i in range(3):
        for method in methods:
            method.step(i)
    assert torch.equal(methods[0].twin.x_t, methods[1].twin.x_t)
    assert not torch.equal(methods[0].dds.x_t, methods[1].dds.x_t)
    assert methods[0].slice_loss(3, 0) != methods[1].slice_loss(3, 0)


def test_adaptation_rate_warms_up_and_falls(prior: DiffusionPrior) -> None:
    settings = AdaptationSettings(learning_rate=1e-2, final_learning_rate=1e-3, adapt_start_t=999)
    method = D3IP(DDS(problem(phantom()), Alone(), prior, SamplerSettings(num_steps=10), 0), settings)
    rates = [method.learning_rate(k) for k in range(method.num_updates)]
    assert method.num_updates == 40
    assert rates[0] == pytest.approx(2e-3)
    assert max(rates) == rates[4]
    assert rates[-1] == pytest.approx(1e-3, rel=0.3)
