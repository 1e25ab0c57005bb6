"""Where a trajectory starts, and what presets say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from small_problem import build, phantom, problem, psnr, solve

from ddip_ray.config.load import load_config
from ddip_ray.config.methods import METHOD_NAMES, overlaid
from ddip_ray.config.settings import RunConfig, SamplerSettings
from ddip_ray.errors import InputError
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.build import with_prior
from ddip_ray.solvers.core.communicator import Alone


def test_starts(prior: DiffusionPrior) -> None:
    x = phantom()
    scan = replace(problem(x), earlier=x)
    starts = {"noise": None, "same_noise": None, "pseudo_inverse": 100, "reconstruction": 100}
    begin = {}
    for name, t in starts.items():
        start_from = "a result" if name == "reconstruction" else None
        sampler = {"start": name, "start_t": t}
        begin[name] = build("dds", scan, prior, sampler=sampler, start_from=start_from).x_t
    assert not torch.equal(begin["noise"][0], begin["noise"][1])
    assert all(torch.equal(begin["same_noise"][0], x_t) for x_t in begin["same_noise"])
    alpha_bar = prior.schedule.at(100)
    noise = begin["reconstruction"] - alpha_bar**0.5 * (2 * x - 1)
    torch.testing.assert_close(noise, (1 - alpha_bar) ** 0.5 * begin["noise"], atol=1e-6, rtol=0)
    inverse = (begin["pseudo_inverse"] - noise) / alpha_bar**0.5
    assert psnr((inverse + 1) / 2, x) > 20


def test_a_late_start_keeps_the_reconstruction_it_is_given(prior: DiffusionPrior) -> None:
    """An untrained network from pure noise is far off; three small steps from the truth are not."""
    x = phantom()
    scan = replace(problem(x, views=4), earlier=x)
    late = {"num_steps": 3, "start": "reconstruction", "start_t": 2}
    method = build("dds", scan, prior, sampler=late, start_from="a result")
    assert method.timesteps[0] == 2
    assert psnr(solve(method), x) > 30


def test_starts_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValidationError, match="start_t 100 goes with"):
        SamplerSettings(start_t=100)
    with pytest.raises(ValidationError, match="needs a start_t"):
        SamplerSettings(start="reconstruction")
    with pytest.raises(InputError, match="go together"):
        load_config(None, {"sampler": {"start": "reconstruction", "start_t": 50}})


def test_presets_are_beneath_what_a_user_says() -> None:
    plain, paper = load_config(None, {}), load_config(None, {"preset": "paper"})
    assert plain.adaptation.loss == "rescan"
    assert paper.adaptation.loss == "measurements"
    assert paper.sampler.cg_iterations == 5
    mine = load_config(None, {"preset": "paper", "sampler": {"cg_iterations": 7}})
    assert mine.sampler.model_copy(update={"cg_iterations": 5}) == paper.sampler
    started = load_config(None, {"start_from": "earlier.zarr"})
    assert (started.sampler.start, started.sampler.start_t) == ("reconstruction", 200)
    with pytest.raises(InputError, match="preset"):
        load_config(None, {"preset": "papers"})


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_method_has_a_paper_and_a_default(prior: DiffusionPrior, method: str) -> None:
    for preset in ("default", "paper"):
        config = load_config(None, {"method": method, "preset": preset})
        json.dumps(config.model_dump(mode="json"), allow_nan=False)  # it is saved with the result
        if config.uses_prior:
            assert with_prior(config, problem(phantom(num_slices=2)), Alone(), prior).num_steps > 1


def test_overlay_goes_section_by_section() -> None:
    assert overlaid({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3}


def test_ddnm_without_fresh_noise_takes_nothing_from_noisy_data(prior: DiffusionPrior) -> None:
    scan = problem(phantom(num_slices=2), noise_std=0.1)
    with pytest.raises(InputError, match=r"sampler\.eta is 0"):
        with_prior(RunConfig.model_validate({"method": "ddnm", "sampler": {"eta": 0}}), scan, Alone(), prior)
    clean = problem(phantom(num_slices=2))
    with_prior(RunConfig.model_validate({"method": "ddnm", "sampler": {"eta": 0}}), clean, Alone(), prior)


def test_the_published_trajectory_is_of_diffusionmbir_alone() -> None:
    mbir = {"trajectory": "predictor_corrector"}
    with pytest.raises(InputError, match="goes with diffusionmbir, not d3ip-mbir"):
        load_config(None, {"method": "d3ip-mbir", "mbir": mbir})
    load_config(None, {"method": "diffusionmbir", "mbir": mbir})
