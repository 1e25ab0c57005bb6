"""Training our own network: it learns, resumes to the last bit, branches, and refuses another run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.prior.load import load_prior
from ddip_ray.prior.residual_unet import ResidualUNet, ResidualUNetConfig
from ddip_ray.prior.training.denoiser_training import (
    DenoiserTraining,
    Run,
    denoising_loss,
    rate_at,
    split_parameters,
    train_denoiser,
)
from ddip_ray.prior.training.leaves import random_leaves
from ddip_ray.prior.training.muon import Muon, orthogonalised
from ddip_ray.tasks.prior_card import read_card, training_commands, write_card

CONFIG = DenoiserTraining(
    size=16, batch=4, warmup_steps=2, network=ResidualUNetConfig(channels=(8, 16), blocks=(1, 1))
)


class Stopped(Exception):
    pass


def stop(progress: object) -> None:
    if getattr(progress, "step", 0) == 7:
        raise Stopped


def test_resuming_gives_the_weights_of_an_unbroken_run(tmp_path: Path) -> None:
    train_denoiser(tmp_path / "whole", CONFIG, steps=10, decay_steps=4)
    with pytest.raises(Stopped):
        train_denoiser(tmp_path / "broken", CONFIG, steps=10, decay_steps=4, save_every=5, report=stop)
    train_denoiser(tmp_path / "broken", CONFIG, steps=10, decay_steps=4)
    assert load_prior(tmp_path / "broken").digest == load_prior(tmp_path / "whole").digest


def test_it_learns() -> None:
    run = Run(CONFIG, "cpu")
    others = 2 * random_leaves(32, 16, 77) - 1
    before = denoising_loss(run.network, others, CONFIG, 10**6).item()
    for _ in range(100):
        run.advance(1.0)
    assert denoising_loss(run.network, others, CONFIG, 10**6).item() < 0.9 * before


def test_a_run_may_go_on_and_branch(tmp_path: Path) -> None:
    train_denoiser(tmp_path / "trunk", CONFIG, steps=3)
    train_denoiser(tmp_path / "trunk", CONFIG, steps=5)
    larger = dataclasses.replace(CONFIG, size=24)
    train_denoiser(tmp_path / "branch", larger, steps=7, decay_steps=2, init_from=tmp_path / "trunk")
    write_card(tmp_path / "branch")
    card = read_card(tmp_path / "branch")
    assert [stage["steps_done"] for stage in card["stages"]] == [5, 7]
    assert [stage["images_seen"] for stage in card["stages"]] == [20, 8]
    first, second = training_commands(card)
    assert first.startswith(
        "ddip-ray prior train trunk --network residual --size 16 --steps 5 --decay-steps 0 "
    )
    assert second.startswith(
        "ddip-ray prior train branch --network residual --size 24 --steps 7 --decay-steps 2 "
    )
    assert second.endswith(" --init-from trunk")
    assert "random leaves" in (tmp_path / "branch" / "README.md").read_text()


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    train_denoiser(tmp_path / "run", CONFIG, steps=1)
    with pytest.raises(InputError, match=r"belongs to another training run \(size: 16 there, 20 here"):
        train_denoiser(tmp_path / "run", dataclasses.replace(CONFIG, size=20), steps=2)
    wider = dataclasses.replace(CONFIG, network=ResidualUNetConfig(channels=(8, 24), blocks=(1, 1)))
    with pytest.raises(InputError, match="belongs to another training run"):
        train_denoiser(tmp_path / "wider", wider, steps=2, init_from=tmp_path / "run")
    with pytest.raises(InputError, match="no training checkpoint"):
        train_denoiser(tmp_path / "new", CONFIG, steps=2, init_from=tmp_path / "nowhere")


def test_averages_forget_the_start(tmp_path: Path) -> None:
    """After n steps a weight w_i = i averages to nearly n: the last tenth counts."""
    run = Run(CONFIG, "cpu")
    name = next(iter(run.average))
    for step in range(100):
        run.losses.append(0.0)
        for value in run.network.state_dict().values():
            value.fill_(step)
        run.average_weights()
    assert 80 < run.average[name].mean().item() < 95


def test_rates_rise_stay_and_fall() -> None:
    rates = [rate_at(step, 4, 20, 5) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(rates[4:16]) == {1.0}
    assert rates[15:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert rate_at(10**6, 4, 10**9, 0) == 1.0


def test_the_loss_weighs_noise_levels_alike() -> None:
    """What the skip leaves to an untrained network has a mean square of 1 if images spread as assumed."""
    white = 0.5 * torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = denoising_loss(ResidualUNet(CONFIG.network), white, CONFIG, 0)
    assert loss.item() == pytest.approx(1, abs=0.02)


def test_noise_levels_cover_the_range() -> None:
    seen: list[Tensor] = []

    class Recorder(ResidualUNet):
        def denoise(self, noisy: Tensor, std: Tensor) -> Tensor:
            seen.append(std)
            return noisy

    denoising_loss(Recorder(CONFIG.network), torch.zeros(50, 1, 4, 4), CONFIG, 0)
    std = seen[0].flatten() / 2
    assert std.min() < 1.2 * CONFIG.lowest_std
    assert CONFIG.lowest_std <= std.min()
    assert 0.85 * CONFIG.highest_std < std.max() <= CONFIG.highest_std


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (16, 16)])
def test_muon_gives_every_direction_the_same_weight(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    matrix = left @ torch.diag(torch.logspace(0, -1.5, len(singular), dtype=torch.float64)) @ right
    found = left.T @ orthogonalised(matrix) @ right.T
    assert (found.diagonal() > 0.6).all()
    assert (found.diagonal() < 1.3).all()
    assert (found - torch.diag(found.diagonal())).abs().max() < 1e-6


def test_weight_decay_bounds_what_muon_makes() -> None:
    """Pushed in one direction for ever, a weight grows to 1 over the decay, and no further."""
    weight = torch.nn.Parameter(torch.zeros(4, 4, 1, 1))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5)
    for _ in range(200):
        weight.grad = -torch.eye(4)[:, :, None, None]
        optimizer.step()
    singular = torch.linalg.svdvals(weight.detach()[:, :, 0, 0])
    assert singular.min() > 0.6 / 0.5
    assert singular.max() < 1.3 / 0.5


def test_an_outlier_does_not_rule_the_loss() -> None:
    network, norms = ResidualUNet(CONFIG.network), []
    for value in (1, 1000):
        images = torch.zeros(4, 1, 16, 16)
        images[0] = value
        network.zero_grad()
        denoising_loss(network, images, CONFIG, 0).backward()  # type: ignore[no-untyped-call]
        norms.append(network.backbone.tail.bias.grad.norm().item())
    assert norms[1] < 10 * norms[0]


def test_muon_goes_downhill_on_a_convolution() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 3, 3, 3))
    target = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    optimizer = Muon([weight])
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 200)
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
    assert (weight - target).abs().max() < 0.1


def test_every_parameter_is_trained_once() -> None:
    network = ResidualUNet(CONFIG.network)
    hidden, others = split_parameters(network)
    assert {id(p) for p in hidden} | {id(p) for p in others} == {id(p) for p in network.parameters()}
    assert len(hidden) + len(others) == len(list(network.parameters()))
    assert all(p.ndim == 4 for p in hidden)


def test_a_checkpoint_is_never_half_written(tmp_path: Path) -> None:
    train_denoiser(tmp_path, CONFIG, steps=2)
    assert not list(tmp_path.glob("*.partial"))
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "channels": [8, 16],
        "blocks": [1, 1],
        "_class_name": "ResidualUNet",
    }
