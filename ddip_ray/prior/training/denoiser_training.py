"""Train a residual U-Net on phantoms for as long as there is time; resumable to the last bit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.prior.denoiser import channels_last
from ddip_ray.prior.load import save_prior
from ddip_ray.prior.residual_unet import HIGHEST_STD, SIGNAL_STD, ResidualUNet, ResidualUNetConfig
from ddip_ray.prior.training.leaves import random_leaves
from ddip_ray.prior.training.muon import Muon
from ddip_ray.prior.training.train import TrainingProgress

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}
_CHECKPOINT = "training.pt"
_EMA_POWER = 10  # weights are averaged over about the last tenth of all steps
_CURVE_POINTS = 200


@dataclass(frozen=True)
class DenoiserTraining:
    """The settings of a training; its length is not part of them.

    Noise has a standard deviation log-uniform between ``lowest_std`` and ``highest_std`` on images of 0 … 1.
    """

    size: int = 96
    batch: int = 16
    learning_rate: float = (
        1e-3  # Adam's, for biases, first and last layer and the embedding of the noise level
    )
    hidden_learning_rate: float = 0.01  # Muon's, for the weights of all other convolutions
    weight_decay: float = 0.3  # of those; without it the gain of a chain of blocks without norms runs away
    warmup_steps: int = 100
    seed: int = 0
    lowest_std: float = 0.003
    highest_std: float = 0.5 * HIGHEST_STD
    network: ResidualUNetConfig = field(default_factory=ResidualUNetConfig)


@dataclass(frozen=True)
class Origin:
    """The run that another one branched off: its name, how far it had come, and the stages in its card."""

    name: str | None = None
    step: int = 0
    stages: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """A training as far as it has come: all that a checkpoint holds."""

    def __init__(self, config: DenoiserTraining, device: str) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.network = ResidualUNet(config.network).to(device)
        channels_last(self.network)
        self.network.precision = training_precision(device)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        hidden, others = split_parameters(self.network)
        self.optimizers = [
            Muon(hidden, config.hidden_learning_rate, weight_decay=config.weight_decay),
            torch.optim.Adam(others, lr=config.learning_rate, betas=(0.9, 0.99)),
        ]
        self.losses: list[float] = []
        self.seconds = 0.0
        self.origin = Origin()

    @property
    def step(self) -> int:
        """Number of optimiser steps taken."""
        return len(self.losses)

    def advance(self, rate: float) -> float:
        """Take one step with the learning rates times ``rate``; returns the loss."""
        images = self.images()
        loss = denoising_loss(self.network, images, self.config, self.step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        peaks = (self.config.hidden_learning_rate, self.config.learning_rate)
        for optimizer, peak in zip(self.optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * peak
            optimizer.step()
        self.average_weights()
        self.losses.append(loss.item())
        return self.losses[-1]

    def average_weights(self) -> None:
        """Step n weighs as n to the 10 (Karras et al. 2024, EDM2, 2312.02696): the start is forgotten."""
        weight = _EMA_POWER / (self.step + _EMA_POWER)
        for key, value in self.network.state_dict().items():
            self.average[key].lerp_(value, weight)

    def images(self) -> Tensor:
        """The phantoms of this step, (batch, 1, size, size) in −1 … 1, keyed by seed and step."""
        config = self.config
        images = 2 * random_leaves(config.batch, config.size, (config.seed, self.step)) - 1
        device = next(self.network.parameters()).device
        return images.to(device).contiguous(memory_format=torch.channels_last)

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to continue."""
        return {
            "config": _plain(self.config),
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "losses": self.losses,
            "seconds": self.seconds,
            "origin": asdict(self.origin),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from ``state``; learning rates and weight decay stay those of this configuration."""
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            ours = optimizer.state_dict()["param_groups"]  # rates and decay are this configuration's
            optimizer.load_state_dict(saved | {"param_groups": ours})
        device = next(self.network.parameters()).device
        self.average = {k: v.to(device) for k, v in state["average"].items()}
        self.losses, self.seconds = state["losses"], state["seconds"]
        self.origin = Origin(**state.get("origin", {}))


def train_denoiser(
    directory: Path,
    config: DenoiserTraining,
    *,
    steps: int,
    decay_steps: int = 0,
    init_from: Path | None = None,
    device: str = "cpu",
    save_every: int = 250,
    report: Callable[[TrainingProgress], None] = lambda progress: None,
) -> None:
    """Train until ``steps`` steps are done, or go on with what is in ``directory``, which `load_prior` reads.

    The learning rate is constant, and the weights are averaged over the last tenth of the way, so a run may
    stop at any step and go on later. Its best weights come from a branch: another directory with
    ``init_from`` and ``decay_steps``, where the rate falls to zero (Hägele et al. 2024, "Scaling laws and
    compute-optimal training beyond fixed training durations", 2405.18392).

    Args:
        directory: of the run; the same call resumes it.
        config: must be that of the run that is resumed, and have the network of the one branched off.
        steps: in all, those of earlier calls and of the run branched off included.
        decay_steps: the learning rate falls linearly to zero in the last ones.
        init_from: a run to start from, with its optimisers and its place in the stream of phantoms.
        device: "cpu" or "cuda".
        save_every: steps between checkpoints.
        report: called after each step.

    Raises:
        InputError: ``directory`` or ``init_from`` holds no such run, or one of another configuration.
    """
    paths.make_folder(directory)
    run = Run(config, device)
    if (directory / _CHECKPOINT).exists():
        run.load(read_checkpoint(directory, config, same_run=True))
    elif init_from is not None:
        run.load(read_checkpoint(init_from, config, same_run=False))
        run.seconds, run.origin = 0.0, Origin(init_from.name, run.step, _stages(init_from))
    started = time.monotonic() - run.seconds
    while run.step < steps:
        run.advance(rate_at(run.step, config.warmup_steps, steps, decay_steps))
        run.seconds = time.monotonic() - started
        recent = run.losses[-100:]
        report(TrainingProgress(run.step, steps, sum(recent) / len(recent), run.seconds))
        if run.step % save_every == 0 or run.step == steps:
            save(directory, run, decay_steps)


def rate_at(step: int, warmup_steps: int, steps: int, decay_steps: int) -> float:
    """The share of the learning rate: a linear rise, a plateau, a linear fall to zero."""
    rise = min(1.0, (step + 1) / max(1, warmup_steps))
    fall = min(1.0, (steps - step) / max(1, decay_steps))
    return rise * fall


def denoising_loss(network: ResidualUNet, images: Tensor, config: DenoiserTraining, step: int) -> Tensor:
    """The root mean square error of each denoised image, by what preconditioning makes of it, 1/c_out.

    EDM (2206.00364) has the squares. The roots give a say to images that are easy, be it for much noise or
    for large smooth regions, and bound the gradient of one that goes wrong. Noise levels are stratified over
    the batch, which lowers the gradient's variance at no cost.

    Args:
        network: in training.
        images: (n, 1, y, x) clean, in −1 … 1.
        config: names the range of noise, and the seed.
        step: with the seed, the key of noise levels and noise.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    n = len(images)
    u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    low, high = math.log(2 * config.lowest_std), math.log(2 * config.highest_std)  # in −1 … 1
    std = torch.exp(low + u * (high - low)).view(-1, 1, 1, 1).to(images.device)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    error = network.denoise(images + std * noise, std) - images
    weight = (std**2 + SIGNAL_STD**2) / (std * SIGNAL_STD) ** 2
    errors = (weight * error**2).mean(dim=(1, 2, 3))
    return (errors + 1e-6).sqrt().mean()


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights of the hidden convolutions, which `Muon` is made for, and all others."""
    hidden: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_end = name.startswith(("backbone.head", "backbone.tail"))
        (hidden if parameter.ndim == 4 and not is_end else others).append(parameter)
    return hidden, others


def training_precision(device: str) -> torch.dtype:
    """bfloat16 where the machine multiplies it faster than float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16", False) else torch.float32


def save(directory: Path, run: Run, decay_steps: int) -> None:
    """Write the checkpoint, whole or not at all, and the averaged weights as a prior."""
    partial = directory / (_CHECKPOINT + ".partial")
    torch.save(run.state(), partial)
    partial.rename(directory / _CHECKPOINT)
    averaged = ResidualUNet(run.config.network)
    averaged.load_state_dict(run.average)
    save_prior(directory, averaged, SCHEDULE, _card(run, decay_steps))


def read_checkpoint(directory: Path, config: DenoiserTraining, *, same_run: bool) -> dict[str, Any]:
    """The state in ``directory`` of a run of ``config``, or of any with its network.

    Raises:
        InputError: there is no run, or it is another one.
    """
    path = directory / _CHECKPOINT
    if not path.is_file():
        raise InputError(
            f"no training checkpoint {path}", "Give a directory written by `ddip-ray prior train`."
        )
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    found, ours = state["config"], _plain(config)
    keys = list(ours) if same_run else ["network"]
    different = [f"{k}: {found.get(k)} there, {ours[k]} here" for k in keys if found.get(k) != ours[k]]
    if different:
        raise InputError(
            f"{path} belongs to another training run ({'; '.join(different)})",
            "Use the same options to resume it, or another output directory.",
        )
    return state


def _stages(directory: Path) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = json.loads((directory / "card.json").read_text())["stages"]
    return stages


def _plain(config: DenoiserTraining) -> dict[str, Any]:
    plain = asdict(config)
    plain["network"] = ResidualUNet(config.network).config
    return plain


def _card(run: Run, decay_steps: int) -> dict[str, Any]:
    every = max(1, run.step // _CURVE_POINTS)
    chunks = [run.losses[i : i + every] for i in range(0, run.step, every)]
    stage = {
        "training": _plain(run.config) | {"decay_steps": decay_steps},
        "init_from": run.origin.name,
        "steps_done": run.step,
        "images_seen": (run.step - run.origin.step) * run.config.batch,
        "hours": round(run.seconds / 3600, 2),
        "final_loss": sum(run.losses[-200:]) / max(1, len(run.losses[-200:])),
    }
    return {
        "image_range": [-1.0, 1.0],
        "data": "random leaves (ddip_ray.prior.training.leaves), nothing else",
        **stage,
        "stages": [*run.origin.stages, stage],
        "loss_curve": [round(sum(chunk) / len(chunk), 5) for chunk in chunks],
    }
