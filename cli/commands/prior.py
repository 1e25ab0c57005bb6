"""`ddip-ray prior train|list|info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddip_ray.errors import InputError

from ..options import AsJson
from ..output import format_fields, format_seconds, format_table, print_json, progress

if TYPE_CHECKING:
    from ddip_ray.prior.training.train import TrainingProgress

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train, list and describe diffusion priors."
)


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
    size: Annotated[
        int, typer.Option(metavar="N", help="Side of the square training images in pixels.")
    ] = 128,
    steps: Annotated[int, typer.Option(metavar="N", help="Number of optimiser steps.")] = 5000,
    batch: Annotated[int, typer.Option(metavar="N", help="Number of images per optimiser step.")] = 16,
    learning_rate: Annotated[
        float, typer.Option(metavar="RATE", help="Peak learning rate, after a short warm-up.")
    ] = 8e-4,
    low_noise_power: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Power p of the training timesteps, drawn as T u^p with u uniform in 0 to 1: 1 is uniform, "
            "2 prefers low noise.",
        ),
    ] = 1.0,
    ema_decay: Annotated[
        float,
        typer.Option(
            metavar="DECAY",
            help="Decay per step of the exponential moving average of the weights, which is what is saved.",
        ),
    ] = 0.999,
    channels: Annotated[
        str,
        typer.Option(
            metavar="N,N,…",
            help="Channels of each level of the U-Net, multiples of 8, the last one a multiple of 32.",
        ),
    ] = "32,64,96,128",
    layers: Annotated[
        int, typer.Option(metavar="N", help="Number of residual blocks per level of the U-Net.")
    ] = 1,
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
    """Train a prior on images of random ellipses.

    The same command continues an interrupted training from the last checkpoint in OUTPUT.
    """
    levels = parse_channels(channels)
    from ddip_ray.prior.network import NetworkConfig
    from ddip_ray.prior.training.train import TrainingConfig, train_prior
    from ddip_ray.tasks.prior_card import write_card

    config = TrainingConfig(
        size=size,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        low_noise_power=low_noise_power,
        ema_decay=ema_decay,
        seed=seed,
        network=NetworkConfig(channels=levels, layers_per_block=layers),
    )
    with progress("steps") as report:

        def watch(now: TrainingProgress) -> None:
            left = now.seconds / now.step * (now.steps - now.step)
            report(now.step, now.steps, f"loss {now.loss:.4f}  {format_seconds(left)} left")

        train_prior(output, config, init_from=init_from, device=device, save_every=save_every, report=watch)
    write_card(output)
    print(f"prior {output}\ncard  {output / 'README.md'}")


def parse_channels(text: str) -> tuple[int, ...]:
    """The numbers in ``"32,64,96"``.

    Normalisation groups need multiples of 8; attention heads, at the last level, need a multiple of 32.
    """
    words = text.split(",")
    levels = tuple(int(word) if word.strip().isdigit() else 0 for word in words)
    if not all(level > 0 and level % 8 == 0 for level in levels) or levels[-1] % 32:
        raise InputError(
            f"--channels: found {text!r}, expected multiples of 8, the last of 32",
            "For example 32,64,96,128",
        )
    return levels
