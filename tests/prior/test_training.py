"""Training: it learns, it resumes to the same weights, and it refuses another run's directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from ddip_ray.errors import InputError
from ddip_ray.prior.load import load_prior
from ddip_ray.prior.network import NetworkConfig
from ddip_ray.prior.training.train import TrainingConfig, learning_rate_at, train_prior

CONFIG = TrainingConfig(
    size=16,
    steps=12,
    batch=4,
    warmup_steps=2,
    network=NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8),
)


class Stopped(Exception):
    pass


def test_resuming_gives_the_weights_of_an_unbroken_run(tmp_path: Path) -> None:
    losses: list[float] = []
    train_prior(tmp_path / "whole", CONFIG, report=lambda progress: losses.append(progress.loss))

    def stop(progress: object) -> None:
        if getattr(progress, "step", 0) == 7:
            raise Stopped

    with pytest.raises(Stopped):
        train_prior(tmp_path / "broken", CONFIG, save_every=5, report=stop)
    train_prior(tmp_path / "broken", CONFIG, save_every=5)
    assert load_prior(tmp_path / "broken").digest == load_prior(tmp_path / "whole").digest
    assert losses[-1] < losses[0]


def test_a_stage_starts_from_the_stage_before(tmp_path: Path) -> None:
    train_prior(tmp_path / "small", CONFIG)
    larger = dataclasses.replace(CONFIG, size=24, steps=1, learning_rate=0.0, final_learning_rate=0.0)
    train_prior(tmp_path / "large", larger, init_from=tmp_path / "small")
    assert load_prior(tmp_path / "large").digest == load_prior(tmp_path / "small").digest


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    train_prior(tmp_path / "run", dataclasses.replace(CONFIG, steps=1))
    with pytest.raises(InputError, match=r"belongs to another training run \(size: 16 there, 20 here"):
        train_prior(tmp_path / "run", dataclasses.replace(CONFIG, steps=1, size=20))


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate_at(CONFIG, step) for step in range(CONFIG.steps)]
    assert rates[0] == pytest.approx(CONFIG.learning_rate / 2, rel=0.05)
    assert max(rates) == rates[1]
    assert rates[-1] < 0.1 * CONFIG.learning_rate


def test_loss_samples_every_noise_level() -> None:
    """Stratified timesteps: a perfect prediction has zero loss at all of them."""
    from ddip_ray.prior.schedule import NoiseSchedule
    from ddip_ray.prior.training.train import diffusion_loss

    seen: list[int] = []

    class Recorder(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> object:
            seen.extend(t.tolist())
            return type("Out", (), {"sample": torch.zeros_like(x)})()

    diffusion_loss(
        Recorder(), torch.zeros(10, 1, 4, 4), NoiseSchedule.linear(), torch.Generator().manual_seed(0)
    )
    assert [t // 100 for t in sorted(seen)] == list(range(10))
