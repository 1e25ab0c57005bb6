"""`ddip-ray prior train|list|info`."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddip_ray.errors import InputError

from .options import AsJson
from .output import format_fields, format_seconds, format_table, print_json, progress

if TYPE_CHECKING:
    from ddip_ray.prior.training.denoiser_training import DenoiserTraining
    from ddip_ray.prior.training.train import TrainingConfig, TrainingProgress

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train, list and describe diffusion priors."
)


class Network(StrEnum):
    """The kinds of networks that can be trained."""

    UNET = "unet"
    RESIDUAL = "residual"


@app.command("list")
def list_priors(as_json: AsJson = False) -> None:
    """List the priors that come with ddip-ray."""
    from ddip_ray.prior.catalog import shipped_priors

    cards = shipped_priors()
    if as_json:
        print_json([{"name": name, **card} for name, card in cards.items()])
        return
    rows = [["name", "trained at", "steps", "hours", "hash"]]
    for name, card in cards.items():
        size = card["training"]["size"]
        rows.append(
            [name, f"{size} x {size}", str(card["steps_done"]), str(card["hours"]), card["digest"][:12]]
        )
    print(format_table(rows) if cards else "no prior comes with this installation")


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="A shipped prior, a directory or a checkpoint.")],
    as_json: AsJson = False,
) -> None:
    """Describe one prior."""
    from ddip_ray.prior.catalog import find_prior
    from ddip_ray.tasks.prior_card import read_card

    card = read_card(find_prior(name))
    if as_json:
        print_json(card)
    else:
        print(format_fields({key: _in_words(value) for key, value in card.items() if key != "loss_curve"}))


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_in_words(item).replace(chr(10), ', ')}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


@app.command("train")
def train(
    output: Annotated[Path, typer.Argument(help="Directory of the prior; the same command resumes it.")],
    network: Annotated[
        Network, typer.Option(help="unet learns ellipses; residual, which is faster, leaves of all shapes.")
    ] = Network.UNET,
    size: Annotated[
        int | None, typer.Option(help="Pixels a side of the phantoms; none: 128, of residual 96.")
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Optimiser steps; of residual, those of --init-from included.")
    ] = 5000,
    batch: Annotated[int, typer.Option(help="Phantoms a step.")] = 16,
    learning_rate: Annotated[
        float | None, typer.Option(help="At its highest; none: 0.0008, of residual 0.01 (Muon's).")
    ] = None,
    decay_steps: Annotated[
        int, typer.Option(help="residual: the learning rate falls to zero in the last so many steps.")
    ] = 0,
    low_noise_power: Annotated[
        float, typer.Option(help="unet: noise levels are u to this power: 1 uniform, 2 prefers low noise.")
    ] = 1.0,
    ema_decay: Annotated[
        float, typer.Option(help="unet: of the averaged weights, which are the ones kept.")
    ] = 0.999,
    channels: Annotated[
        str | None, typer.Option(help="Of the levels; none: 32,64,96,128, of residual 48,96,192,256.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Blocks a level; none: 1, of residual 2.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, phantoms and noise.")] = 0,
    init_from: Annotated[
        Path | None, typer.Option(help="Start from the weights of this run, e.g. one at a smaller size.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 250,
) -> None:
    """Train a prior on phantoms alone; resumes what is in OUTPUT."""
    given: dict[str, Any] = {"size": size, "batch": batch, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None}
    run: Callable[..., None]
    if network is Network.RESIDUAL:
        config = _residual_config(given, learning_rate, channels, layers)
        run = partial(_train_denoiser, config, steps, decay_steps)
    else:
        given |= {"steps": steps, "low_noise_power": low_noise_power, "ema_decay": ema_decay}
        run = partial(_train_unet, _unet_config(given, learning_rate, channels, layers))
    from ddip_ray.tasks.prior_card import write_card

    with progress("steps") as report:

        def watch(now: TrainingProgress) -> None:
            left = now.seconds / now.step * (now.steps - now.step)
            report(now.step, now.steps, f"loss {now.loss:.4f}  {format_seconds(left)} left")

        run(output, init_from=init_from, device=device, save_every=save_every, report=watch)
    write_card(output)
    print(f"prior {output}\ncard  {output / 'README.md'}")


def _unet_config(
    given: dict[str, Any], learning_rate: float | None, channels: str | None, layers: int | None
) -> TrainingConfig:
    levels = parse_channels(channels or "32,64,96,128")
    from ddip_ray.prior.network import NetworkConfig
    from ddip_ray.prior.training.train import TrainingConfig

    network = NetworkConfig(channels=levels, layers_per_block=layers or 1)
    defaults: dict[str, Any] = {"size": 128, "learning_rate": learning_rate or 8e-4, "network": network}
    return TrainingConfig(**defaults | given)


def _train_unet(config: TrainingConfig, output: Path, **how: Any) -> None:
    from ddip_ray.prior.training.train import train_prior

    train_prior(output, config, **how)


def _residual_config(
    given: dict[str, Any], learning_rate: float | None, channels: str | None, layers: int | None
) -> DenoiserTraining:
    levels = parse_channels(channels or "48,96,192,256", last=8)
    from ddip_ray.prior.residual_unet import ResidualUNetConfig
    from ddip_ray.prior.training.denoiser_training import DenoiserTraining

    network = ResidualUNetConfig(levels, (layers or 2,) * len(levels))
    return DenoiserTraining(**given, hidden_learning_rate=learning_rate or 0.01, network=network)


def _train_denoiser(config: DenoiserTraining, steps: int, decay_steps: int, output: Path, **how: Any) -> None:
    from ddip_ray.prior.training.denoiser_training import train_denoiser

    train_denoiser(output, config, steps=steps, decay_steps=decay_steps, **how)


def parse_channels(text: str, last: int = 32) -> tuple[int, ...]:
    """``"32,64,96"`` as multiples of 8, for groups and blocks, and ``last`` a multiple of attention heads."""
    words = text.split(",")
    levels = tuple(int(word) if word.strip().isdigit() else 0 for word in words)
    if not all(level > 0 and level % 8 == 0 for level in levels) or levels[-1] % last:
        raise InputError(
            f"--channels: found {text!r}, expected multiples of 8, the last of {last}",
            "For example 32,64,96,128",
        )
    return levels
