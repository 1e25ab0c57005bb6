"""Our own network: what it predicts, how it is kept, and that adapters find its convolutions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter, LoraConfig, adapted_weights
from ddip_ray.errors import InputError
from ddip_ray.prior.load import load_prior, save_prior
from ddip_ray.prior.memory import call_bytes
from ddip_ray.prior.residual_unet import ResidualUNet, ResidualUNetConfig
from ddip_ray.prior.training.denoiser_training import SCHEDULE

TINY = ResidualUNetConfig(channels=(8, 16), blocks=(1, 2))


def network() -> ResidualUNet:
    """A tiny one that does something: none of its weights is zero."""
    generator = torch.Generator().manual_seed(0)
    made = ResidualUNet(TINY)
    for parameter in made.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return made


def images(num_images: int = 2, size: int = 16) -> Tensor:
    return torch.randn(num_images, 1, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("t", [0, 200, 999])
def test_noise_estimate_and_denoised_image_are_one_prediction(t: int) -> None:
    """x_t = √ᾱ D + √(1−ᾱ) ε, of both ways to ask."""
    made, x_t = network(), images()
    alpha_bar = made.alpha_bar[t]
    signal, noise = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
    with torch.no_grad():
        eps = made(x_t, torch.full((2,), t)).sample
        clean = made.denoise(x_t / signal, (noise / signal).expand(2, 1, 1, 1))
    torch.testing.assert_close(signal * clean + noise * eps, x_t, rtol=0, atol=2e-6)


def test_an_untrained_network_is_the_linear_denoiser_of_white_images() -> None:
    """Without a prediction EDM's skip is Wiener's filter: x σ_d² / (σ² + σ_d²)."""
    noisy, std = images(), torch.full((2, 1, 1, 1), 0.5)
    torch.testing.assert_close(ResidualUNet(TINY).denoise(noisy, std), 0.5 * noisy)


def test_the_noise_level_matters() -> None:
    made, x = network(), images()
    quiet, loud = (made.residual(x, torch.full((2, 1, 1, 1), std)) for std in (0.1, 0.1001))
    assert (quiet - loud).abs().max() < 0.01 * quiet.abs().max()
    assert (quiet - made.residual(x, torch.full((2, 1, 1, 1), 2.0))).abs().max() > 0.01 * quiet.abs().max()


def test_it_is_kept_and_loaded_and_takes_any_size(tmp_path: Path) -> None:
    made = network()
    save_prior(tmp_path / "own", made, SCHEDULE, {"image_range": [-1.0, 1.0]})
    prior = load_prior(tmp_path / "own")
    assert prior.size_multiple == 4
    x_t = images(3, 20)[:, 0, :, :19]
    x0_hat, eps_hat = prior.denoise(x_t, 100)
    assert x0_hat.shape == x_t.shape
    alpha_bar = prior.schedule.at(100)
    torch.testing.assert_close(alpha_bar**0.5 * x0_hat + (1 - alpha_bar) ** 0.5 * eps_hat, x_t)
    made.load_state_dict({key: value.half().float() for key, value in made.state_dict().items()})
    with torch.no_grad():
        expected = made(x_t[:, None, 2:18, :16], torch.full((3,), 100)).sample
        found = prior.network(x_t[:, None, 2:18, :16], torch.full((3,), 100)).sample
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_call_needs_the_memory_that_it_counts(tmp_path: Path) -> None:
    save_prior(tmp_path, network(), SCHEDULE, {})
    prior = load_prior(tmp_path)
    small, large = (call_bytes(prior, (size, size), 1, with_gradient=True) for size in (32, 64))
    assert 2 < large / small < 4.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": [8]}, "for the same levels"),
        ({"channels": [8, 0]}, "expected channels and blocks of each level"),
        ({"channels": "8,16"}, "expected channels and blocks of each level"),
        ({"channels": [8, 24]}, "the weights do not fit"),
    ],
)
def test_a_wrong_configuration_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    save_prior(tmp_path, network(), SCHEDULE, {})
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(InputError, match=message):
        load_prior(tmp_path)


def test_an_adapter_changes_every_convolution() -> None:
    made, x, t = network(), images(), torch.full((2,), 300)
    names = adapted_weights(made, LoraConfig())
    assert len(names) == 2 + 2 * (1 + 2 + 1) + 1  # head and tail, two a block, one down (up is transposed)
    adapter = Adapter.create(made, LoraConfig(rank=2), seed=0)
    assert torch.equal(adapter.bind(made)(x, t), made(x, t).sample)
    adapter.bind(made)(x, t).square().sum().backward()
    gradients = [adapter.parameters[f"{name}.lora_up"].grad for name in names]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_lower_precision_changes_little() -> None:
    made, x, t = network(), images(), torch.full((2,), 300)
    with torch.no_grad():
        full = made(x, t).sample
        made.precision = torch.bfloat16
        lower = made(x, t).sample
    assert lower.dtype == torch.float32
    assert not torch.equal(full, lower)
    assert (full - lower).abs().max() < 0.02 * full.abs().max()
