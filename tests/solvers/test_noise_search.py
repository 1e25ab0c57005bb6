"""Noise that held-out measurements decide on."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gaussian import SIZE, GaussianPrior
from small_problem import build, operator, phantom, problem, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.config.load import load_config
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.build import searches_noise
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.validating.noise_level import NoiseSearch

SAMPLER = {"num_steps": 4, "cg_iterations": 5, "final_cg_iterations": 5}
NOISE = 0.3


def gaussian_scan(estimate: float) -> SlabProblem:
    """Images drawn from the Gaussian prior, scanned with ``NOISE``, of which ``estimate`` is found."""
    prior, generator = GaussianPrior(), torch.Generator().manual_seed(0)
    root = (prior.axes * prior.variances.sqrt()) @ prior.axes.T
    draws = torch.randn(12, SIZE**2, generator=generator, dtype=root.dtype)
    x = (prior.mean + draws @ root).float().reshape(-1, SIZE, SIZE)
    A = operator(SIZE, views=12)
    y = A.forward(x)
    y = y + NOISE * torch.randn(y.shape, generator=generator)
    return SlabProblem(A, y, Slab(0, 12), 12, estimate, noise_is_estimated=True)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_finds_the_noise_of_a_known_prior(share: float) -> None:
    trajectory = {"num_steps": 50, "data_trust": 1, "nonnegative": False, "noise_free_below_t": 1000}
    method: Any = build(
        "dds",
        gaussian_scan(share * NOISE),
        GaussianPrior(),  # type: ignore[arg-type]
        sampler=trajectory,
        noise={"num_slices": 12, "factors": [0.5, 1, 2, 4, 8]},
    )
    solve(method)
    found = method.method.problem.noise_std
    assert found / NOISE == pytest.approx(1, rel=0.4)


def measured(x: Tensor, slab: Slab | None = None) -> SlabProblem:
    return replace(problem(x, slab, noise_std=0.05), noise_is_estimated=True)


@pytest.mark.parametrize("method", ["dds", "d3ip-mbir"])
@pytest.mark.parametrize("edges", [[0, 3, 6], [0, 1, 2, 6]])
def test_same_volume_on_any_workers(prior: DiffusionPrior, method: str, edges: list[int]) -> None:
    """With the slices 0, 2 and 4 of six; a worker may have none of them."""
    x = phantom()
    adaptation = {"num_adapt_steps": 1, "lora_rank": 2, "adapt_start_t": 10, "policy": "auto"}
    settings = {"sampler": SAMPLER, "noise": {"num_slices": 3}, "adaptation": adaptation}
    if method == "dds":
        settings.pop("adaptation")

    def work(slab: Slab, communicator: Any) -> Tensor:
        return solve(build(method, measured(x, slab), copy.deepcopy(prior), communicator, **settings))

    assert (on_workers(edges, work) - work(Slab(0, 6), Alone())).abs().max() <= 1e-5


def test_mri_on_a_worker_without_any_of_these_slices(prior: DiffusionPrior, small_mri: Path) -> None:
    """Several coils, and the slices 0, 4 and 8 of twelve."""
    settings = {"sampler": SAMPLER, "noise": {"num_slices": 3}}

    def work(slab: Slab, communicator: Any) -> Tensor:
        scan = replace(load_problem(open_acquisition(small_mri), slab), noise_is_estimated=True)
        return solve(build("dds", scan, copy.deepcopy(prior), communicator, **settings))

    assert torch.equal(on_workers([0, 1, 3, 12], work), work(Slab(0, 12), Alone()))


def test_the_rest_goes_as_with_the_noise_that_was_found(prior: DiffusionPrior) -> None:
    scan = measured(phantom())
    search = build("dds", scan, prior, sampler=SAMPLER)
    notes = [search.step(i).note for i in range(search.num_steps)]
    assert [i for i, note in enumerate(notes) if note] == [11]  # three trials of four steps
    assert notes[11] is not None
    found = search.method.problem.noise_std  # in the prior's range, from -1 to 1
    assert notes[11].startswith(f"noise {found / 0.1:.3g} times the store's estimate; misfit of held-out")
    known = build("dds", replace(scan, noise_std=found / 2, noise_is_estimated=False), prior, sampler=SAMPLER)
    assert torch.equal(search.result(), solve(known))
    assert (search.nfe, search.adapt_nfe) == (4, 6 * 3 * 4)  # of six slices every one is tried


def test_an_earlier_result_which_saw_all_is_not_shown_to_the_trials(prior: DiffusionPrior) -> None:
    x = phantom()
    sampler = {**SAMPLER, "start": "reconstruction", "start_t": 300}
    scans = [replace(measured(x), earlier=earlier) for earlier in (x, torch.zeros_like(x))]
    searches = [build("dds", scan, prior, sampler=sampler, start_from="vol.zarr") for scan in scans]
    for search in searches:
        solve(search)
    assert searches[0].misfits == searches[1].misfits
    assert not torch.equal(searches[0].result(), searches[1].result())


@pytest.mark.parametrize(
    ("method", "scan", "settings"),
    [
        ("dds", problem(phantom(), noise_std=0.05), {}),
        ("dds", replace(measured(phantom()), noise_std=0.0), {}),
        ("dds", measured(phantom()), {"noise": {"level": "given"}}),
        ("dds", measured(phantom()), {"sampler": {"gamma": 5.0}}),
        ("dps", measured(phantom()), {}),
        ("score-sde", measured(phantom()), {}),
        ("diffusionmbir", measured(phantom()), {"mbir": {"trajectory": "predictor_corrector"}}),
    ],
    ids=["known", "none", "given", "gamma", "dps", "score-sde", "predictor-corrector"],
)
def test_nothing_to_search(
    prior: DiffusionPrior, method: str, scan: SlabProblem, settings: dict[str, Any]
) -> None:
    assert not isinstance(build(method, scan, prior, **settings), NoiseSearch)


def test_settings_of_a_paper_are_not_searched_for() -> None:
    for method in ("dds", "ddnm", "diffpir", "d3ip", "ddip", "scd", "d3ip-mbir", "diffusionmbir"):
        config = load_config(None, {"method": method, "preset": "paper"})
        assert not searches_noise(config, measured(phantom())), method


def test_only_measured_noise_is_an_estimate(small_scan: Path) -> None:
    simulated = load_problem(open_acquisition(small_scan), Slab(0, 2))
    assert not simulated.noise_is_estimated
    assert math.isfinite(simulated.noise_std)
