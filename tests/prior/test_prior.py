"""Schedule, phantoms, network wrapper, and loading what does not fit."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ddip_ray.errors import InputError
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.load import load_prior, save_prior
from ddip_ray.prior.network import NetworkConfig, build_network
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.prior.training.phantoms import paint, random_ellipses
from ddip_ray.prior.training.train import SCHEDULE

TINY = NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("num_steps", [1, 2, 25, 50, 1000])
def test_timesteps_fall_from_pure_noise_to_clean(num_steps: int, power: float) -> None:
    t = NoiseSchedule.linear().timesteps(num_steps, power)
    assert len(t) == num_steps
    assert t[0] == 999
    assert num_steps == 1 or t[-1] == 0
    assert all(a >= b for a, b in itertools.pairwise(t))
    assert power > 1 or len(set(t)) == num_steps


def test_schedule_is_that_of_ddpm() -> None:
    schedule = NoiseSchedule.linear()
    assert schedule.at(-1) == 1.0
    assert schedule.at(0) == pytest.approx(1 - 1e-4)
    assert schedule.at(999) == pytest.approx(4.036e-5, rel=1e-3)  # the usual value for these betas
    with pytest.raises(ValueError, match="between 1 and 1000, got 1001"):
        schedule.timesteps(1001)


def test_phantoms_are_keyed_varied_and_in_range() -> None:
    first, again, other = random_ellipses(8, 48, 3), random_ellipses(8, 48, 3), random_ellipses(8, 48, 4)
    assert first.shape == (8, 1, 48, 48)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1
    assert (first.flatten(1).std(dim=1) > 0.01).float().mean() > 0.8  # few are nearly empty


def test_most_phantoms_are_mostly_of_low_contrast() -> None:
    """Soft tissue differs by hundredths of the range: so must neighbours in most phantoms."""
    phantoms = random_ellipses(64, 64, 0)
    step = (phantoms[..., 1:] - phantoms[..., :-1]).abs()
    small = ((step > 1e-3) & (step < 0.05)).flatten(1).sum(dim=1)
    large = (step >= 0.05).flatten(1).sum(dim=1)
    assert (small > large).float().mean() > 0.6


@pytest.mark.parametrize("edge_width", [1.0, 2.5])
@pytest.mark.parametrize(
    ("semi_y", "semi_x", "angle"), [(9.0, 9.0, 0.0), (5.0, 14.0, 0.7), (12.0, 8.0, -1.2)]
)
def test_a_painted_ellipse_has_its_area_and_its_value(
    semi_y: float, semi_x: float, angle: float, edge_width: float
) -> None:
    image = np.full((48, 48), 0.25)
    paint(image, np.array([[23.3, 24.1, semi_y, semi_x, angle, 0.75, 0, 0, 0]]), edge_width)
    assert image[23, 24] == 0.75
    assert image[0, 0] == 0.25
    assert (image - 0.25).sum() / 0.5 == pytest.approx(np.pi * semi_y * semi_x, rel=0.03)
    paint(image, np.array([[23.3, 24.1, semi_y, semi_x, angle, 0.1, 0, 0, 1]]), edge_width)
    assert image[23, 24] == pytest.approx(0.85)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("shape", [(16, 16), (17, 30), (7, 9)])
def test_tweedie_is_consistent_at_any_size(prediction: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    prior = DiffusionPrior(build_network(TINY), NoiseSchedule.linear(), prediction)  # type: ignore[arg-type]
    x_t = torch.randn(3, *shape)
    x0_hat, eps_hat = prior.denoise(x_t, 500)
    assert x0_hat.shape == eps_hat.shape == x_t.shape
    alpha_bar = prior.schedule.at(500)
    torch.testing.assert_close(
        alpha_bar**0.5 * x0_hat + (1 - alpha_bar) ** 0.5 * eps_hat, x_t, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(64, 64), (64, 48)])
def test_a_slice_does_not_depend_on_its_batch_or_on_threads(shape: tuple[int, int]) -> None:
    """What makes DDS the same volume, bit for bit, on any number of workers."""
    torch.manual_seed(0)
    prior = DiffusionPrior(build_network(NetworkConfig()), NoiseSchedule.linear(), "v_prediction")
    x_t = torch.randn(6, *shape)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = torch.cat([prior.denoise(x_t[i : i + 2], 50)[0] for i in (0, 2, 4)])
        torch.set_num_threads(2)
        two = torch.cat([prior.denoise(x_t[i : i + 2], 50)[0] for i in (1, 3)])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one[1:5], two)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_prior(tmp_path / "mine", build_network(TINY), SCHEDULE, {"image_range": [0.0, 1.0]})
    return tmp_path / "mine"


def test_round_trip_through_a_diffusers_directory(saved: Path) -> None:
    from diffusers import UNet2DModel

    prior = load_prior(saved)
    assert prior.image_range == (0.0, 1.0)
    assert prior.prediction == "v_prediction"
    theirs = UNet2DModel.from_pretrained(saved).eval()
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([10, 10])
    with torch.no_grad():
        torch.testing.assert_close(prior.network_forward(x, t), theirs(x, t).sample)


def test_a_pipeline_directory_of_diffusers_loads(saved: Path, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline"
    (pipeline / "unet").mkdir(parents=True)
    (pipeline / "scheduler").mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        shutil.copy(saved / name, pipeline / "unet" / name)
    shutil.copy(saved / "scheduler_config.json", pipeline / "scheduler")
    assert load_prior(pipeline).digest == load_prior(saved).digest


def test_weights_of_another_prior_are_refused(saved: Path) -> None:
    torch.manual_seed(1)
    save_prior(saved.parent / "other", build_network(TINY), SCHEDULE, {})
    shutil.copy(saved.parent / "other" / "diffusion_pytorch_model.safetensors", saved)
    with pytest.raises(InputError, match=r"weights' hash is .*card\.json records"):
        load_prior(saved)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "config.json",
            {"in_channels": 3},
            "UNet2DModel of one channel, or of two, in and out, found UNet2DModel of 3 in and 1 out",
        ),
        ("config.json", {"out_channels": 2}, "found UNet2DModel of 1 in and 2 out"),
        ("config.json", {"num_class_embeds": 10}, "asks for an image's class"),
        ("config.json", {"down_block_types": ["A", "B"]}, "its config.json describes no network"),
        ("card.json", {"digest": 5}, r"card\.json: .*[\s\S]*digest: .*found 5"),
        ("card.json", {"image_range": "x"}, r"card\.json: .*[\s\S]*image_range: .*found 'x'"),
        ("card.json", {"image_range": [1.0, 0.0]}, r"expected \[low, high\]"),
        ("config.json", {"_class_name": "UNet2DConditionModel"}, "found UNet2DConditionModel"),
        ("config.json", {"block_out_channels": [8, 24]}, "do not fit its config.json"),
        (
            "scheduler_config.json",
            {"beta_schedule": "squaredcos_cap_v2"},
            "beta_schedule: .*found 'squaredcos_cap_v2'",
        ),
    ],
)
def test_what_does_not_fit_is_named(saved: Path, file: str, change: dict[str, object], message: str) -> None:
    content = json.loads((saved / file).read_text())
    (saved / file).write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=message):
        load_prior(saved)


def test_a_truncated_file_is_refused(saved: Path) -> None:
    path = saved / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors cannot be read"):
        load_prior(saved)


def test_missing_files_are_named(saved: Path) -> None:
    (saved / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors is missing"):
        load_prior(saved)
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        load_prior(saved.parent / "nowhere")
