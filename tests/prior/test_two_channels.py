"""Priors of complex images: real and imaginary part as the two channels of one network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_checkpoint import original
from torch import Tensor, nn

from ddip_ray.config.load import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.errors import InputError
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.load import load_prior, save_prior
from ddip_ray.prior.schedule import NoiseSchedule

SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


class Scaled(nn.Module):
    """What a linear network of so many channels answers; with two, the second also hears the first."""

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        self.leak = leak

    def forward(self, x: Tensor, t: Tensor) -> Any:
        out = 0.3 * x + 1e-3 * t[:, None, None, None]
        if self.leak:
            out = torch.cat([out[:, :1], out[:, 1:] + self.leak * x[:, :1]], dim=1)
        return type("Output", (), {"sample": out})


def prior(network: nn.Module, num_channels: int, prediction: Any = "v_prediction") -> DiffusionPrior:
    return DiffusionPrior(network, NoiseSchedule.linear(), prediction, num_channels=num_channels)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "ve_score"])
def test_channels_that_do_not_mix_are_slices_of_their_own(prediction: Any) -> None:
    x = torch.randn(3, 8, 7, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    for found, expected in zip(
        prior(Scaled(), 2, prediction).denoise(x, 300),
        prior(Scaled(), 1, prediction).denoise(x, 300),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_the_imaginary_part_is_the_second_channel() -> None:
    x = torch.randn(2, 8, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    apart, mixed = (prior(Scaled(leak), 2, "sample").denoise(x, 300)[0] for leak in (0.0, 0.5))
    torch.testing.assert_close(mixed - apart, 0.5j * x.real)


@pytest.fixture(scope="module")
def saved(two_channels: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("priors") / "complex"
    save_prior(folder, two_channels, SCHEDULE, {})
    return folder


def test_a_saved_one_is_loaded(saved: Path, tmp_path: Path) -> None:
    loaded = load_prior(saved)
    assert (loaded.num_channels, loaded.image_range) == (2, (0.0, 1.0))
    x = torch.randn(1, 8, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    channels = torch.stack([x.real, x.imag], dim=1)
    eps = loaded.network(channels, torch.tensor([300])).sample
    torch.testing.assert_close(loaded.denoise(x, 300)[1], torch.complex(eps[:, 0], eps[:, 1]))
    card = json.loads((saved / "card.json").read_text())
    (saved / "card.json").write_text(json.dumps({**card, "image_range": [-2.0, 2.0]}))
    assert load_prior(saved).image_range == (-2.0, 2.0)
    (saved / "card.json").write_text(json.dumps(card))


def test_guided_diffusion_of_two_channels(tmp_path: Path) -> None:
    network = original(in_channels=2, out_channels=4)  # and their variances
    torch.save(network.state_dict(), tmp_path / "adm.pt")
    (tmp_path / "adm.yaml").write_text("model: {num_head_channels: 16}")
    loaded = load_prior(tmp_path / "adm.pt")
    assert (loaded.num_channels, loaded.image_range) == (2, (0.0, 1.0))
    x = torch.randn(1, 32, 32, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        eps = network(torch.stack([x.real, x.imag], dim=1), torch.tensor([300]))
    expected = torch.complex(eps[:, 0], eps[:, 1])
    torch.testing.assert_close(loaded.denoise(x, 300)[1], expected, rtol=1e-3, atol=1e-4)


def test_real_images_are_not_for_it(saved: Path, small_scan: Path, tmp_path: Path) -> None:
    config = load_config(None, {"method": "dds", "prior": str(saved)})
    with pytest.raises(InputError, match="has two channels, for complex images; these are real"):
        reconstruct(str(small_scan), str(tmp_path / "x.zarr"), config, executor="local")
    assert not (tmp_path / "x.zarr").exists()
