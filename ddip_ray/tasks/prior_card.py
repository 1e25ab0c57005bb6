"""The model card of a prior: its training data and settings, its loss, and samples drawn from it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.formats import CHECKPOINTS
from ddip_ray.prior.load import load_prior
from ddip_ray.prior.training.leaves import random_leaves
from ddip_ray.prior.training.phantoms import random_ellipses

NUM_PICTURES = 8
SAMPLE_STEPS = 50


def read_card(directory: Path) -> dict[str, Any]:
    """The facts about a prior: those of ``card.json`` in its directory, or what a checkpoint file holds."""
    if directory.suffix in CHECKPOINTS:
        return _checkpoint_card(directory)
    path = directory / "card.json"
    facts = json.loads(path.read_text()) if path.is_file() else {}
    return {"name": directory.name, "directory": str(directory), **facts}


def _checkpoint_card(path: Path) -> dict[str, Any]:
    """The facts that a checkpoint of another project tells."""
    prior = load_prior(path)
    low, high = prior.image_range
    facts = {
        "name": prior.name,
        "file": str(path),
        "network": type(prior.network).__name__,
        "parameters": sum(p.numel() for p in prior.network.parameters()),
        "prediction": prior.prediction,
        "image_range": f"{low:g} to {high:g}",
        "timesteps": prior.schedule.num_train_timesteps,
        "digest": prior.digest,
    }
    return facts | ({"assumed": prior.assumed} if prior.assumed else {})


def training_commands(card: Mapping[str, Any]) -> list[str]:
    """The commands that trained the prior, one for each stage."""
    stages = card["stages"]
    names = [stage["init_from"] for stage in stages[1:]] + [card["name"]]
    return [_training_command(name, stage) for name, stage in zip(names, stages, strict=True)]


def _training_command(name: str, stage: Mapping[str, Any]) -> str:
    training = stage["training"]
    network = training["network"]
    options = _residual_options(stage) if _is_residual(stage) else _unet_options(training, network)
    if stage["init_from"]:
        options["--init-from"] = stage["init_from"]
    return " ".join(["ddip-ray prior train", name, *(f"{k} {v}" for k, v in options.items())])


def _is_residual(card: Mapping[str, Any]) -> bool:
    """Whether a card, or a stage of one, is of our residual U-Net."""
    return "blocks" in card.get("training", {}).get("network", {})


def _residual_options(stage: Mapping[str, Any]) -> dict[str, Any]:
    training = stage["training"]
    network = training["network"]
    return {
        "--network": "residual",
        "--size": training["size"],
        "--steps": stage["steps_done"],
        "--decay-steps": training["decay_steps"],
        "--batch": training["batch"],
        "--learning-rate": training["hidden_learning_rate"],
        "--channels": ",".join(map(str, network["channels"])),
        "--layers": network["blocks"][0],
        "--seed": training["seed"],
    }


def _unet_options(training: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "--size": training["size"],
        "--steps": training["steps"],
        "--batch": training["batch"],
        "--learning-rate": training["learning_rate"],
        "--low-noise-power": training["low_noise_power"],
        "--ema-decay": training["ema_decay"],
        "--channels": ",".join(map(str, network["channels"])),
        "--layers": network["layers_per_block"],
        "--seed": training["seed"],
    }


def write_card(directory: Path) -> None:
    """Write ``README.md``, ``samples.png`` and ``loss.png`` beside the weights in ``directory``."""
    card = read_card(directory)
    prior = load_prior(directory)
    training = card.get("training", {})
    size, seed = int(training.get("size", 128)), int(training.get("seed", 0))
    low, high = prior.image_range
    samples = (sample_unconditional(prior, NUM_PICTURES, size, seed) - low) / (high - low)
    draw = random_leaves if _is_residual(card) else random_ellipses
    phantoms = draw(NUM_PICTURES, size, seed)[:, 0]
    rows = {"training phantoms": phantoms.numpy(), "samples of the prior": samples.numpy()}
    (directory / "samples.png").write_bytes(draw_rows(rows))
    if card.get("loss_curve"):
        (directory / "loss.png").write_bytes(draw_loss(card["loss_curve"], int(card["steps_done"])))
    (directory / "README.md").write_text(card_text(card, directory / "diffusion_pytorch_model.safetensors"))


def sample_unconditional(prior: DiffusionPrior, num_images: int, size: int, seed: int) -> Tensor:
    """Samples of the prior without any measurements, by deterministic DDIM.

    DDIM: Song, Meng and Ermon, "Denoising diffusion implicit models", ICLR 2021, arXiv 2010.02502.

    Args:
        prior: The diffusion prior.
        num_images: Number of samples.
        size: Side of a sample in pixels.
        seed: Seed of the noise that sampling starts from.

    Returns:
        Images (num_images, size, size) in the prior's image range.
    """
    schedule = prior.schedule
    timesteps = schedule.timesteps(SAMPLE_STEPS)
    x_t = torch.randn(num_images, size, size, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        for t, t_next in zip(timesteps, [*timesteps[1:], -1], strict=True):
            x0_hat, eps_hat = prior.denoise(x_t, t)
            alpha_bar = schedule.at(t_next)
            x_t = alpha_bar**0.5 * x0_hat + (1 - alpha_bar) ** 0.5 * eps_hat
    return x_t


def draw_rows(rows: Mapping[str, NDArray[np.float32]]) -> bytes:
    """A PNG of rows of square pictures on the grey window 0 to 1, each row with its name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.3 * num_columns, 1.5 * len(rows)), dpi=130, facecolor="black")
    for row, (name, images) in enumerate(rows.items()):
        top = 1 - row / len(rows)
        figure.text(0.005, top - 0.07 / len(rows), name, color="white", fontsize=8, va="center")
        for column, image in enumerate(images):
            box = (
                (column + 0.02) / num_columns,
                top - 0.99 / len(rows),
                0.96 / num_columns,
                0.84 / len(rows),
            )
            axes: Any = figure.add_axes(box)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
    return _png(FigureCanvasAgg(figure))


def draw_loss(curve: Sequence[float], steps: int) -> bytes:
    """A PNG of the training loss over steps, with a logarithmic loss axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), dpi=110, layout="constrained")
    axes: Any = figure.add_subplot()
    axes.semilogy(np.linspace(steps / len(curve), steps, len(curve)), curve)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3, which="both")
    return _png(FigureCanvasAgg(figure))


def _png(canvas: Any) -> bytes:
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def card_text(card: Mapping[str, Any], weights: Path) -> str:
    """The model card in Markdown."""
    lines = [f"# Prior `{card['name']}`", ""]
    if "training" in card:
        training = card["training"]
        facts = {
            "Trained on": card["data"],
            "Size of the phantoms": f"{training['size']} x {training['size']}",
            "Steps of this stage": f"{card['steps_done']}, {training['batch']} phantoms each",
            "Continued from": card["init_from"] or "nothing",
            "Time": " + ".join(f"{stage['hours']}" for stage in card["stages"]) + " hours",
            "Loss at the end": f"{card['final_loss']:.4f} (mean of the last 200 steps)",
            "Seed": training["seed"],
            "Channels": ", ".join(map(str, training["network"]["channels"])),
            "Weights": f"float16, {weights.stat().st_size / 1e6:.1f} MB",
            "Hash of the weights": f"`{card['digest']}`",
        }
        lines += [f"- {name}: {value}" for name, value in facts.items()]
        lines += ["", "Made by", "", "```", *training_commands(card), "```", ""]
        lines += [card["note"], ""] if "note" in card else []
        lines += ["![loss](loss.png)"]
    known = (
        "leaves of many shapes and textures" if _is_residual(card) else "ellipses, flat, sloped or textured"
    )
    lines += [
        "",
        "Slices of any size can be denoised: the network is convolutional and slices are padded to what it",
        f"takes. It has never seen anatomy: it knows {known}.",
        "",
        "Training phantoms, and samples of the prior without any measurement:",
        "",
        "![samples](samples.png)",
        "",
    ]
    return "\n".join(lines)
