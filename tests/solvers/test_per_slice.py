"""Adapters of slices: DDIP and SCD, and D3IP (meta), which begins them from the volume's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from small_problem import build, phantom, problem, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab

SAMPLER = {"num_steps": 4, "cg_iterations": 5, "final_cg_iterations": 5}
ADAPTATION = {"num_adapt_steps": 2, "lora_rank": 2, "adapt_start_t": 999, "learning_rate": 3e-3}
METHODS: dict[str, dict[str, Any]] = {
    "ddip": {"adaptation": ADAPTATION},
    "scd": {"adaptation": {**ADAPTATION, "loss": "measurements"}},
    "d3ip-meta": {"adaptation": ADAPTATION, "meta": {"inner_steps": 2, "refine_steps": 1}},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("edges", [[0, 2, 4], [0, 1, 2, 4]])
def test_same_volume_on_any_workers(prior: DiffusionPrior, method: str, edges: list[int]) -> None:
    x = phantom(num_slices=4)

    def work(slab: Slab, communicator: Any) -> Tensor:
        own = copy.deepcopy(prior)  # a functional call swaps weights in the module: one a thread
        scan = problem(x, slab)
        return solve(build(method, scan, own, communicator, sampler=SAMPLER, seed=3, **METHODS[method]))

    assert (on_workers(edges, work) - work(Slab(0, 4), Alone())).abs().max() <= 1e-5


@pytest.mark.parametrize("method", ["ddip", "scd"])
def test_slices_do_not_inherit(prior: DiffusionPrior, method: str) -> None:
    """The published loop never reset the adapter: a slice knew those before it."""
    x = phantom(num_slices=3)
    other = x.clone()
    other[0] = x[0].T.flip(0)
    first, second = (
        solve(build(method, problem(volume), prior, sampler=SAMPLER, **METHODS[method]))
        for volume in (x, other)
    )
    assert torch.equal(first[1:], second[1:])
    assert not torch.equal(first[0], second[0])


def test_a_slice_is_adapted_alike_in_a_long_volume(prior: DiffusionPrior) -> None:
    """An adapter that learns from one slice has no twins of the others to make up for fewer of its own."""
    volume = phantom(num_slices=6)
    adaptation = {**ADAPTATION, "target_copies": 4, "num_copies": 4}
    short, long = (
        solve(build("ddip", problem(x), prior, sampler=SAMPLER, adaptation=adaptation))
        for x in (volume[:1], volume)
    )
    assert (long[:1] - short).abs().max() <= 1e-5


def test_adaptation_by_the_measurements_meets_them_better(prior: DiffusionPrior) -> None:
    """What SCD minimises, before data consistency hides it."""
    adaptation = {**ADAPTATION, "loss": "measurements", "num_adapt_steps": 20, "loss_cg_iterations": 0}
    sampler = {"num_steps": 4, "cg_iterations": 1, "final_cg_iterations": 1}
    method = build("d3ip", problem(phantom()), prior, sampler=sampler, adaptation=adaptation)
    learner = method.learner
    before = [float(method.judge.slice_loss(0, [z], learner.network, 0)(z)) for z in range(6)]
    learner.adapt(0, method.judge)
    after = [float(method.judge.slice_loss(0, [z], learner.network, 0)(z)) for z in range(6)]
    assert sum(after) < 0.8 * sum(before)


def test_adapts_at_every_other_timestep(prior: DiffusionPrior) -> None:
    adaptation = {**ADAPTATION, "loss": "measurements", "adapt_every": 2}
    method = build("scd", problem(phantom(num_slices=3)), prior, sampler=SAMPLER, adaptation=adaptation)
    losses = [method.step(i).loss for i in range(4)]
    assert [loss is not None for loss in losses] == [True, False, True, False]
    assert method.adapt_nfe == 3 * 2 * 2  # slices, timesteps, updates


def test_reptile_moves_the_volumes_adapter_and_refines_each_slice(prior: DiffusionPrior) -> None:
    method = build("d3ip-meta", problem(phantom()), prior, sampler=SAMPLER, **METHODS["d3ip-meta"])
    for i in range(SAMPLER["num_steps"]):
        method.step(i)
    fresh = method.adapter.flat()
    method.step(SAMPLER["num_steps"])
    moved = method.adapter.flat()
    assert not torch.equal(moved, fresh)
    x, t = torch.rand(1, 1, 24, 24), torch.tensor([5])
    outputs = [network(x, t) for network in method.learner.network_for(0, method.twins)]
    assert torch.equal(method.adapter.flat(), moved)  # refinement leaves the volume's adapter alone
    assert len(outputs) == 6
    assert not torch.equal(outputs[0], outputs[1])


def before_reptile(prior: DiffusionPrior, num_adapt_steps: int, **meta: Any) -> Any:
    """D3IP (meta) with its first result, and twins of it."""
    sampler = {"num_steps": 2, "cg_iterations": 1, "final_cg_iterations": 1}
    adaptation = {**ADAPTATION, "num_adapt_steps": num_adapt_steps, "lora_rank": 4, "loss_cg_iterations": 1}
    settings: dict[str, Any] = {"sampler": sampler, "adaptation": adaptation, "meta": meta}
    method = build("d3ip-meta", problem(phantom()), prior, **settings)
    for i in range(2):
        method.step(i)
    method.twins = method.scan_again(method.sampler.x0)
    return method


def test_reptile_makes_the_twins_better(prior: DiffusionPrior) -> None:
    method = before_reptile(prior, 12, inner_steps=4, outer_rate=1.0)

    def loss() -> float:
        return sum(float(method.twins.slice_loss(0, [z], method.learner.network, 7)(z)) for z in range(6))

    before = loss()
    method.learner.adapt(0, method.twins)
    assert loss() < 0.6 * before


def test_reptile_goes_its_rate_of_the_way(prior: DiffusionPrior) -> None:
    moves = []
    for rate in (1.0, 0.25):
        method = before_reptile(prior, 1, inner_steps=2, outer_rate=rate, outer_decay=False)
        before = method.adapter.flat()
        method.learner.adapt(0, method.twins)
        moves.append(method.adapter.flat() - before)
    assert float(moves[0].abs().max()) > 0
    torch.testing.assert_close(moves[1], 0.25 * moves[0], rtol=1e-4, atol=1e-7)


def test_reptile_decays_to_nothing(prior: DiffusionPrior) -> None:
    learner = build("d3ip-meta", problem(phantom()), prior, sampler=SAMPLER, **METHODS["d3ip-meta"]).learner
    learner.learner.updates = learner.learner.num_updates
    assert learner.outer_rate() == 0


def test_total_variation_is_weighed_against_the_data_in_any_range(prior: DiffusionPrior) -> None:
    other = DiffusionPrior(prior.network, prior.schedule, prior.prediction, image_range=(0, 1))
    settings: dict[str, Any] = {
        "scd": {"tv_weight": 0.1},
        "adaptation": {**ADAPTATION, "loss": "measurements", "loss_cg_iterations": 20},
    }
    u = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(0))
    of_range, of_unit = (
        build("scd", problem(phantom()), own, sampler=SAMPLER, **settings) for own in (prior, other)
    )
    unit = of_unit.judge.loss(0, u, of_unit.sampler.problem.slice(0))
    ranged = of_range.judge.loss(0, 2 * u - 1, of_range.sampler.problem.slice(0))
    torch.testing.assert_close(ranged, 4 * unit)
