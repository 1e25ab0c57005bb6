"""Train a prior on random ellipses: keyed data, EMA, resumable to the bit of the data stream."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.prior.load import save_prior
from ddip_ray.prior.network import NetworkConfig, build_network
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.prior.training.phantoms import random_ellipses

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
}


@dataclass(frozen=True)
class TrainingConfig:
    """One stage of training. Stages of growing ``size`` follow each other through ``init_from``.

    Timesteps are drawn as T u^``low_noise_power`` with u uniform: 1 is uniform, 2 prefers low noise,
    where the details of a reconstruction are decided.
    """

    size: int = 64
    steps: int = 5000
    batch: int = 16
    learning_rate: float = 8e-4
    warmup_steps: int = 100
    final_learning_rate: float = 2e-5
    ema_decay: float = 0.999
    weight_decay: float = 0.0
    seed: int = 0
    low_noise_power: float = 1.0
    network: NetworkConfig = field(default_factory=NetworkConfig)


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is: ``step`` of ``steps``, the running loss, seconds so far."""

    step: int
    steps: int
    loss: float
    seconds: float


def learning_rate_at(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to ``final_learning_rate``."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / config.steps)).item())
    return warm * (config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine)


def diffusion_loss(
    network: nn.Module,
    x0: Tensor,
    schedule: NoiseSchedule,
    generator: torch.Generator,
    low_noise_power: float = 1.0,
) -> Tensor:
    """Velocity regression (Salimans & Ho, 2202.00512), which weighs x0 errors by SNR + 1.

    Timesteps are stratified over the batch, which lowers the gradient's variance at no cost.
    """
    n, total = len(x0), schedule.num_train_timesteps
    u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    t = (u**low_noise_power * total).long().clamp_max(total - 1)
    alpha_bar = schedule.alpha_bar[t].to(torch.float32)[:, None, None, None].to(x0.device)
    noise = torch.randn(x0.shape, generator=generator).to(x0.device)
    signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    predicted = network(signal * x0 + sigma * noise, t.to(x0.device)).sample
    return torch.nn.functional.mse_loss(predicted, signal * noise - sigma * x0)


def train_prior(
    directory: Path,
    config: TrainingConfig,
    *,
    init_from: Path | None = None,
    device: str = "cpu",
    save_every: int = 250,
    report: Callable[[TrainingProgress], None] = lambda progress: None,
) -> None:
    """Train, or go on training, in ``directory``; the result is a prior that `load_prior` reads.

    ``training.pt`` in the directory holds everything needed to resume; the same call resumes.

    Raises:
        InputError: ``directory`` holds a run of another configuration.
    """
    paths.make_folder(directory)
    checkpoint = directory / "training.pt"
    schedule = NoiseSchedule.linear(
        SCHEDULE["num_train_timesteps"], SCHEDULE["beta_start"], SCHEDULE["beta_end"]
    )
    torch.manual_seed(config.seed)
    network = build_network(config.network).to(device)
    if init_from is not None and not checkpoint.exists():
        network.load_state_dict(_read_checkpoint(init_from / "training.pt", config, same_run=False)["ema"])
    ema = {k: v.detach().clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
    )
    losses: list[float] = []
    seconds = 0.0
    if checkpoint.exists():
        state = _read_checkpoint(checkpoint, config, same_run=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        ema, losses, seconds = state["ema"], state["losses"], state["seconds"]

    def save() -> None:
        state = {
            "config": _plain(config),
            "network": network.state_dict(),
            "ema": ema,
            "optimizer": optimizer.state_dict(),
            "losses": losses,
            "seconds": seconds,
        }
        partial = checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(checkpoint)
        averaged = build_network(config.network)
        averaged.load_state_dict(ema)
        save_prior(directory, averaged, SCHEDULE, _card(config, losses, seconds, init_from))

    started = time.monotonic() - seconds
    for step in range(len(losses), config.steps):
        # Keyed by (seed, step): a resumed run sees the images it would have seen.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        images = random_ellipses(config.batch, config.size, (config.seed, step))
        x0 = (2 * images - 1).to(device).contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(config, step)
        loss = diffusion_loss(network, x0, schedule, generator, config.low_noise_power)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        for key, value in network.state_dict().items():
            ema[key].lerp_(value, 1 - decay)
        losses.append(loss.item())
        seconds = time.monotonic() - started
        report(TrainingProgress(step + 1, config.steps, sum(losses[-100:]) / len(losses[-100:]), seconds))
        if (step + 1) % save_every == 0 or step + 1 == config.steps:
            save()


def _plain(config: TrainingConfig) -> dict[str, Any]:
    plain = asdict(config)
    plain["network"]["channels"] = list(config.network.channels)
    return plain


def _card(
    config: TrainingConfig, losses: list[float], seconds: float, init_from: Path | None
) -> dict[str, Any]:
    every = max(1, len(losses) // 200)
    curve = [sum(losses[i : i + every]) / len(losses[i : i + every]) for i in range(0, len(losses), every)]
    stage = {
        "training": _plain(config),
        "init_from": init_from.name if init_from else None,
        "steps_done": len(losses),
        "images_seen": len(losses) * config.batch,
        "hours": round(seconds / 3600, 2),
        "final_loss": sum(losses[-200:]) / max(1, len(losses[-200:])),
    }
    return {
        "image_range": [-1.0, 1.0],
        "data": "random ellipses (ddip_ray.prior.training.phantoms), nothing else",
        **stage,
        "stages": [*_stages_before(init_from), stage],
        "loss_curve": [round(value, 5) for value in curve],
    }


def _stages_before(init_from: Path | None) -> list[dict[str, Any]]:
    """The stages that the run in ``init_from`` went through, so that a card tells the whole training."""
    if init_from is None:
        return []
    stages: list[dict[str, Any]] = json.loads((init_from / "card.json").read_text())["stages"]
    return stages


def _read_checkpoint(path: Path, config: TrainingConfig, *, same_run: bool) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"no training checkpoint {path}", "Give a directory written by `ddip-ray prior train`."
        )
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    ours = _plain(config)
    keys = ours.keys() if same_run else ["network"]
    different = [
        f"{k}: {state['config'].get(k)} there, {ours[k]} here"
        for k in keys
        if state["config"].get(k) != ours[k]
    ]
    if different:
        raise InputError(
            f"{path} belongs to another training run ({'; '.join(different)})",
            "Use the same options to resume it, or another output directory.",
        )
    return state
