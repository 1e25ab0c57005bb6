"""Adaptation that measurements decide on: what they may not have seen, and what they can take back."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from small_problem import build, phantom, problem, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.validating.held_out import clear_gain, held_out, least

SAMPLER = {"num_steps": 4, "cg_iterations": 5, "final_cg_iterations": 5}
ADAPTATION = {"num_adapt_steps": 3, "lora_rank": 2, "adapt_start_t": 999, "learning_rate": 1e-2}
AUTO = {**ADAPTATION, "policy": "auto"}


@pytest.mark.parametrize("method", ["d3ip", "d3ip-mbir"])
@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 2, 6]])
def test_same_volume_on_any_workers(prior: DiffusionPrior, method: str, edges: list[int]) -> None:
    """With three validated slices of six, 0, 2 and 4; a worker may have none of them."""
    x = phantom()
    validation = {"num_slices": 3, "strengths": [0.0, 1.0]}

    def work(slab: Slab, communicator: Any) -> Tensor:
        own = copy.deepcopy(prior)  # a functional call swaps weights in the module: one a thread
        scan = problem(x, slab)
        settings = {"sampler": SAMPLER, "adaptation": AUTO, "validation": validation, "seed": 3}
        return solve(build(method, scan, own, communicator, **settings))

    assert (on_workers(edges, work) - work(Slab(0, 6), Alone())).abs().max() <= 1e-5


def test_full_strength_is_the_fixed_policy(prior: DiffusionPrior) -> None:
    x = phantom()
    fixed = solve(build("d3ip", problem(x), prior, sampler=SAMPLER, adaptation=ADAPTATION))
    one = {"strengths": [1.0]}
    auto = solve(build("d3ip", problem(x), prior, sampler=SAMPLER, adaptation=AUTO, validation=one))
    assert torch.equal(auto, fixed)


def test_the_strength_with_the_least_misfit_is_used_and_saved(prior: DiffusionPrior) -> None:
    sampler = {**SAMPLER, "nonnegative": False}  # with it there is too little to gain here
    method = build("d3ip", problem(phantom()), prior, sampler=sampler, adaptation=AUTO)
    notes = [method.step(i).note for i in range(method.num_steps)]
    assert sum(note is not None for note in notes) == 1
    squared = method.validation.squared_misfits()
    assert list(squared) == [0.0, 0.5, 1.0, 1.5]
    misfits = {s: math.sqrt(float(slices.sum())) for s, slices in squared.items()}
    assert len(set(misfits.values())) == 4
    clear = [s for s in squared if s == 0 or clear_gain(squared[s], squared[0.0]) > 0]
    assert method.validation.strength == least({s: misfits[s] for s in clear}) > 0
    assert notes[8] is not None
    assert notes[8].startswith(f"adapted at strength {method.validation.strength:.3g};")
    saved, learned = method.adapter.parameters, method.learner.adapter.parameters
    for name in saved:
        factor = method.validation.strength if name.endswith("lora_up") else 1
        torch.testing.assert_close(saved[name], factor * learned[name])
    judged = 4 * 3 * 6 * 2  # timesteps, updates, slices, twins
    assert method.adapt_nfe == judged + 6 * 4 * 4  # and all slices at four strengths, all steps being late


def test_the_least_misfit_between_strengths() -> None:
    def bowl(strength: float) -> float:
        return (0.01 + (strength - 0.7) ** 2) ** 0.5

    assert least({s: bowl(s) for s in (0.0, 0.5, 1.0, 1.5)}) == pytest.approx(0.7)
    assert least({s: bowl(s) for s in (0.0, 0.4, 1.5)}) == pytest.approx(0.7)
    assert least({0.0: 1.0, 0.5: 2.0, 1.0: 3.0}) == 0.0
    assert least({0.0: 3.0, 0.5: 2.0, 1.0: 1.0}) == 1.0
    assert least({0.0: 1.0, 0.5: 1.0, 1.0: 1.0}) == 0.0
    assert least({0.0: 2.0, 0.5: 1.0, 1.0: 1.0}) == pytest.approx(0.75)
    assert least({1.0: 5.0}) == 1.0


def test_a_clear_gain() -> None:
    """In every slice a little is clear, in half of them as much again is not."""
    than = torch.arange(1.0, 9, dtype=torch.float64)
    assert clear_gain(than * (1 - 1e-3), than) > 0
    assert clear_gain(than, than) <= 0
    assert clear_gain(than * (1 + 1e-3), than) <= 0
    chance = torch.tensor([3.0, -1, 3, -1, 3, -1, 3, -1], dtype=torch.float64)  # 1 +- 0.76
    assert clear_gain(than * (-chance).exp(), than) <= 0
    assert clear_gain(than * (-chance - 1.2).exp(), than) <= 0  # by 2.9 standard errors
    assert clear_gain(than * (-chance - 1.4).exp(), than) > 0
    assert clear_gain(than[:1] - 1e-3, than[:1]) > 0
    assert clear_gain(than[:1], than[:1]) <= 0


def test_a_slice_of_large_measurements_does_not_hide_what_all_slices_gain() -> None:
    than = torch.tensor([900.0, 1, 2, 3, 1, 2, 3, 1], dtype=torch.float64)
    less = torch.tensor([0.93, 0.9, 0.92, 0.9, 0.91, 0.93, 0.9, 0.92], dtype=torch.float64)
    assert clear_gain(less * than, than) > 0
    held = torch.cat([than, torch.zeros(3, dtype=torch.float64)])  # three slices with nothing held out
    assert clear_gain(held * 0.9, held) > 0
    assert clear_gain(torch.zeros(3), torch.zeros(3)) <= 0


def test_an_unclear_gain_is_not_taken(prior: DiffusionPrior) -> None:
    method = build("d3ip", problem(phantom()), prior, sampler=SAMPLER, adaptation=AUTO)
    gains = {0.0: [0, 0, 0, 0], 0.5: [3, -1, 3, -1], 1.0: [0, 0, 0, 0], 1.5: [-1, -1, -1, -1]}
    squared = {s: 10 - torch.tensor(g, dtype=torch.float64) for s, g in gains.items()}
    method.validation.squared_misfits = lambda: squared
    note = method.validation.choose(False)
    assert method.validation.strength == 0
    assert note == (
        "not adapted, for no clear gain; misfit of held-out views "
        "6.32456 at 0, 6.00000 at 0.5, 6.32456 at 1, 6.63325 at 1.5"
    )
    squared[0.5] = 10 - torch.tensor([3.0, 2, 3, 2], dtype=torch.float64)
    method.validation.choose(False)
    assert method.validation.strength == 0.5
    squared[1.0] = 10 - torch.tensor([2.0, 1, 2, 1], dtype=torch.float64)
    note = method.validation.choose(False)
    assert 0.5 < method.validation.strength < 1
    assert note.startswith("adapted at strength 0.")


def test_a_clear_gain_is_taken_though_another_unclear_one_is_larger(prior: DiffusionPrior) -> None:
    method = build("d3ip", problem(phantom()), prior, sampler=SAMPLER, adaptation=AUTO)
    gains = {0.0: [0, 0, 0, 0], 0.5: [1, 1.1, 1, 1.1], 1.0: [9, -1, -1, -1], 1.5: [-1, -1, -1, -1]}
    squared = {s: 10 - torch.tensor(g, dtype=torch.float64) for s, g in gains.items()}
    method.validation.squared_misfits = lambda: squared
    method.validation.choose(False)
    assert method.validation.strength == 0.5


def test_an_adapter_that_harms_is_taken_back(prior: DiffusionPrior) -> None:
    """One that blows the weights up, before it learns."""
    x = phantom()
    method = build("d3ip", problem(x), prior, sampler=SAMPLER, adaptation=AUTO)
    method.learner.adapter.add(torch.ones(method.learner.adapter.num_parameters()))
    for i in range(method.num_steps):
        method.step(i)
    assert method.validation.strength == 0
    plain = solve(build("dds", problem(x), prior, sampler=SAMPLER))
    # Weights with nothing added are called in another way, which rounds differently.
    torch.testing.assert_close(method.result(), plain, atol=5e-3, rtol=0)


def test_what_gained_once_is_not_given_up(prior: DiffusionPrior) -> None:
    """By misfits made up: a clear gain at the second of six late steps, and never again."""
    settings = {"sampler": {**SAMPLER, "num_steps": 6}, "adaptation": AUTO, "validation": {"patience": 2}}
    method = build("d3ip", problem(phantom()), prior, **settings)
    plain, shares = torch.full((6,), 10.0).double(), iter([1.0, 0.9])

    def misfits() -> dict[float, Tensor]:
        return {0.0: plain, 0.5: next(shares, 1.0) * plain, 1.0: 2 * plain, 1.5: 3 * plain}

    method.validation.squared_misfits = misfits
    most = method.nfe, method.adapt_nfe
    notes = [method.step(i).note for i in range(method.num_steps)]
    assert [note.partition(";")[0] for note in notes if note] == ["not adapted, for no clear gain"]
    assert method.learner.updates == 18
    assert (method.nfe, method.adapt_nfe) == most


def test_learning_is_given_up_where_nothing_is_clear(prior: DiffusionPrior) -> None:
    """By misfits made up: half of the slices gain as much as the others lose."""
    sampler, x = {**SAMPLER, "num_steps": 6}, phantom()
    settings = {"sampler": sampler, "adaptation": AUTO, "validation": {"patience": 3}}
    method = build("d3ip", problem(x), prior, **settings)
    validation, plain = method.validation, torch.full((6,), 10.0).double()
    chance = torch.tensor([3.0, -3, 3, -3, 3, -3])
    validation.squared_misfits = lambda: {s: plain + chance * s for s in (0.0, 0.5, 1.0, 1.5)}
    most, notes, moved = (method.nfe, method.adapt_nfe), [], []
    for i in range(method.num_steps):
        notes.append(method.step(i).note)
        moved.append(validation.late[0].x_t if validation.late else None)
    assert notes[8] == "adapting given up after step 3 of 6"
    assert notes[12] is not None
    assert notes[12].startswith("not adapted, for no clear gain")
    assert method.learner.updates == 9
    assert moved[9] is moved[8]
    assert (method.nfe, method.adapt_nfe) == (most[0] - 3 * 4, most[1] - 3 * (3 * 6 * 2 + 6 * 4))
    assert method.validation.strength == 0
    plain_result = solve(build("dds", problem(x), prior, sampler=sampler))
    torch.testing.assert_close(method.result(), plain_result, atol=5e-3, rtol=0)


def test_the_shadow_begins_with_the_adapter_that_was_given(prior: DiffusionPrior, tmp_path: Path) -> None:
    """Otherwise strengths would be judged on another trajectory than the real one."""
    adapter = Adapter.create(prior.network, LoraConfig(rank=2), seed=0)
    adapter.add(0.1 * torch.ones(adapter.num_parameters()))
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(adapter.to_bytes(prior.digest))
    settings = {"sampler": SAMPLER, "adaptation": {**AUTO, "adapt_start_t": 10, "lora_rank": 2}}
    plain = build("d3ip", problem(phantom()), prior, **settings)
    given = build("d3ip", problem(phantom()), prior, adapter=str(path), **settings)
    for method in (plain, given):
        method.step(0)
    assert not torch.equal(plain.validation.shadow.x_t, given.validation.shadow.x_t)
    path.write_bytes(adapter.at_strength(0).to_bytes(prior.digest))  # of a volume that was not adapted
    assert build("d3ip", problem(phantom()), prior, adapter=str(path), **settings).first_network is None


def test_held_out_views_are_not_seen(prior: DiffusionPrior) -> None:
    scan = problem(phantom())
    held = held_out(scan, 2, 0.1, seed=5)
    seen, mask = held.seen, held.mask
    assert seen.slab == Slab(0, 3)
    assert mask.shape == (3, 20, 1)
    assert (mask == 0).sum(dim=(1, 2)).tolist() == [2, 2, 2]
    assert len({tuple(row.flatten().tolist()) for row in mask}) > 1  # not the same views everywhere
    spoilt = scan.y.clone()
    spoilt[::2] = torch.where(mask == 0, 100.0, spoilt[::2])
    other = held_out(replace(scan, y=spoilt), 2, 0.1, seed=5)
    assert torch.equal(other.seen.y, seen.y)
    x = torch.rand(3, 24, 24)
    assert not ((1 - mask) * seen.operator.forward(x)).any()


def test_masked_adjoint() -> None:
    scan = problem(phantom())
    A = held_out(scan, 1, 0.2, seed=1).seen.operator
    x, y = torch.rand(6, 24, 24), torch.rand_like(scan.y)
    left, right = (A.forward(x) * y).double().sum(), (x * A.adjoint(y)).double().sum()
    assert float(left) == pytest.approx(float(right), rel=1e-5)
    with pytest.raises(ValueError, match=r"Masked\.forward"):
        A.forward(torch.rand(6, 24, 23))


@pytest.mark.parametrize("changes", [{"loss": "measurements"}, {}])
def test_auto_needs_one_adapter_and_twins(prior: DiffusionPrior, changes: dict[str, str]) -> None:
    name = "d3ip" if changes else "d3ip-meta"
    with pytest.raises(ValidationError, match="policy: auto weighs the one adapter"):
        build(name, problem(phantom()), prior, adaptation={**AUTO, **changes})


def test_an_earlier_reconstruction_tells_the_shadow_nothing(prior: DiffusionPrior) -> None:
    """It was made of the views that are held out."""
    scan = problem(phantom())
    sampler = {**SAMPLER, "start": "reconstruction", "start_t": 300}
    shadows = []
    for earlier in (phantom(), torch.zeros_like(phantom())):
        config = {"sampler": sampler, "adaptation": AUTO, "start_from": "earlier.zarr"}
        method = build("d3ip", replace(scan, earlier=earlier), prior, **config)
        assert method.sampler.settings.start == "reconstruction"
        shadows.append(method.validation.shadow.x_t)
    assert torch.equal(*shadows)


def test_what_a_given_adapter_did_is_not_denied(prior: DiffusionPrior, tmp_path: Path) -> None:
    adapter = Adapter.create(prior.network, LoraConfig(rank=2), seed=0)
    adapter.add(0.1 * torch.ones(adapter.num_parameters()))
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(adapter.to_bytes(prior.digest))
    adaptation = {**AUTO, "adapt_start_t": 0, "lora_rank": 2}
    settings = {"sampler": SAMPLER, "adaptation": adaptation, "adapter": str(path)}
    method = build("d3ip", problem(phantom()), prior, validation={"strengths": [0.0]}, **settings)
    notes = [method.step(i).note for i in range(method.num_steps)]
    assert next(note for note in notes if note).startswith("adapted in the early steps only")
