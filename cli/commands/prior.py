"""`ddip-ray prior train|list|info`."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddip_ray.errors import InputError

from ..options import AsJson
from ..output import format_fields, format_seconds, format_table, print_json, progress

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
    print(format_table(rows) if cards else "this installation has no priors")


@app.command("info")
def info(
    name: Annotated[
        str, typer.Argument(metavar="PRIOR", help="Name of a shipped prior, directory, or checkpoint file.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show what is known about a prior."""
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
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Directory to write the prior to.")],
    network: Annotated[
        Network,
        typer.Option(
            help="Network to train: the U-Net learns ellipses; the residual U-Net, which is faster, learns "
            "leaves of many shapes and textures.",
        ),
    ] = Network.UNET,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Side of the square training images in pixels. Default: 128 for unet, else 96."
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of optimiser steps; for residual, those of the run in --init-from are included.",
        ),
    ] = 5000,
    batch: Annotated[int, typer.Option(metavar="N", help="Number of images per optimiser step.")] = 16,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Peak learning rate, after a short warm-up. Default: 0.0008 for unet, else 0.01 (Muon).",
        ),
    ] = None,
    decay_steps: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="For residual: number of last steps in which the learning rate falls linearly to zero.",
        ),
    ] = 0,
    low_noise_power: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="For unet: power p of the training timesteps, drawn as T u^p with u uniform in 0 to 1: 1 is "
            "uniform, 2 prefers low noise.",
        ),
    ] = 1.0,
    ema_decay: Annotated[
        float,
        typer.Option(
            metavar="DECAY",
            help="For unet: decay per step of the exponential moving average of the weights, which is what "
            "is saved.",
        ),
    ] = 0.999,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Channels of each level of the network, multiples of 8; for unet the last one a multiple of "
            "32. Default: 32,64,96,128 for unet, else 48,96,192,256.",
        ),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of residual blocks per level. Default: 1 for unet, else 2."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Random seed of initial weights, training images and noise.")
    ] = 0,
    init_from: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Earlier training run to take the initial weights from, for example one at a smaller size. "
            "Default: random weights.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="Device to train on.")] = "cpu",
    save_every: Annotated[int, typer.Option(metavar="N", help="Number of steps between checkpoints.")] = 250,
) -> None:
    """Train a prior on synthetic phantoms.

    The same command continues an interrupted training from the last checkpoint in OUTPUT.
    """
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
    """The numbers in ``"32,64,96"``.

    Normalisation groups need multiples of 8; attention heads, at the last level, a multiple of ``last``.
    """
    words = text.split(",")
    levels = tuple(int(word) if word.strip().isdigit() else 0 for word in words)
    if not all(level > 0 and level % 8 == 0 for level in levels) or levels[-1] % last:
        raise InputError(
            f"--channels: found {text!r}, expected multiples of 8, the last of {last}",
            "For example 32,64,96,128",
        )
    return levels
