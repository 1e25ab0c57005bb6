"""Find, load and save priors; a prior's identity is the digest of its weights."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddip_ray.errors import InputError
from ddip_ray.prior.catalog import find_prior
from ddip_ray.prior.denoiser import DiffusionPrior, channels_last
from ddip_ray.prior.formats import CHECKPOINTS
from ddip_ray.prior.formats.checkpoint import load_checkpoint
from ddip_ray.prior.formats.scheduler_config import read_json, read_scheduler
from ddip_ray.prior.formats.sidecar import load_card
from ddip_ray.prior.residual_unet import CLASS_NAME, ResidualUNet, ResidualUNetConfig
from ddip_ray.prior.schedule import NoiseSchedule

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # weights are never fetched at run time

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"


def weights_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float16 values: the identity of a prior."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().to(torch.float16).contiguous()
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def save_prior(
    directory: Path, network: nn.Module, schedule_config: dict[str, Any], card: dict[str, Any]
) -> None:
    """Write a diffusers directory (float16 safetensors) plus ``card.json`` with our own facts."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().to(torch.float16).contiguous() for k, v in network.state_dict().items()}
    temporary = directory / (WEIGHTS_NAME + ".partial")
    save_file(state, temporary)
    temporary.rename(directory / WEIGHTS_NAME)
    config = {k: v for k, v in dict(network.config).items() if not k.startswith("_")}  # type: ignore[arg-type]
    config["_class_name"] = type(network).__name__
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    scheduler = {"_class_name": "DDPMScheduler", **schedule_config}
    (directory / "scheduler_config.json").write_text(json.dumps(scheduler, indent=1) + "\n")
    (directory / "card.json").write_text(
        json.dumps({**card, "digest": weights_digest(state)}, indent=1) + "\n"
    )


def load_prior(
    source: str | Path, device: str | torch.device = "cpu", micro_batch: int | None = None
) -> DiffusionPrior:
    """The prior at ``source``, on ``device``, ready to denoise.

    Args:
        source: name of a shipped prior ("default"); a diffusers directory (a bare U-Net, or a pipeline with
            ``unet/`` and ``scheduler/``); or a checkpoint of guided-diffusion or score_sde.
        device: where the network runs.
        micro_batch: slices per network call. None is 1 on a CPU, where more gain nothing, and 8 on a GPU.

    A prior of two channels whose card names no image range has complex images as they are.

    Raises:
        InputError: no such directory, not a `UNet2DModel` of one or two channels, one for classes, weights
            that do not fit or do not match the digest recorded beside them, or a schedule we do not know.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    directory = find_prior(source) if isinstance(source, str) else source
    size = micro_batch or (1 if torch.device(device).type == "cpu" else 8)
    if directory.suffix in CHECKPOINTS:
        return _load_checkpoint(directory, device, size)
    unet = directory / "unet" if (directory / "unet").is_dir() else directory
    config = read_json(unet / "config.json")
    scheduler = read_scheduler(directory)
    network, num_channels = _network(config, scheduler.schedule, directory)
    if not (unet / WEIGHTS_NAME).is_file():
        raise InputError(
            f"prior {directory}: {WEIGHTS_NAME} is missing", "Save it with safe_serialization=True."
        )
    try:
        state = load_file(unet / WEIGHTS_NAME)
        network.load_state_dict({k: v.float() for k, v in state.items()})
    except (SafetensorError, OSError) as error:
        raise InputError(f"prior {directory}: {WEIGHTS_NAME} cannot be read ({error})") from error
    except RuntimeError as error:
        raise InputError(f"prior {directory}: the weights do not fit its config.json ({error})") from error
    digest = weights_digest(state)
    card = load_card(directory / "card.json")
    if card.digest not in (None, digest):
        raise InputError(
            f"prior {directory}: the weights' hash is {digest[:12]}…, card.json records {card.digest[:12]}…",
            "The files do not belong together; restore the directory.",
        )
    return DiffusionPrior(
        channels_last(network.to(device)),
        scheduler.schedule,
        scheduler.prediction_type,
        image_range=card.image_range or ((-1.0, 1.0) if num_channels == 1 else (0.0, 1.0)),
        name=directory.name,
        digest=digest,
        micro_batch=size,
        num_channels=num_channels,
    )


def _network(config: dict[str, Any], schedule: NoiseSchedule, directory: Path) -> tuple[nn.Module, int]:
    """The untrained network of a ``config.json``, and of how many channels its images are."""
    if config.get("_class_name") != CLASS_NAME:
        return _unet(config, directory)
    try:
        return ResidualUNet(ResidualUNetConfig.from_json(config), schedule), 1
    except InputError as error:
        raise InputError(f"prior {directory}: {error.message}", error.hint) from error


def _unet(config: dict[str, Any], directory: Path) -> tuple[nn.Module, int]:
    """The untrained network of a ``config.json``, and of how many channels its images are."""
    from diffusers import UNet2DModel

    channels = config.get("in_channels"), config.get("out_channels")
    if config.get("_class_name") != "UNet2DModel" or channels not in ((1, 1), (2, 2)):
        raise InputError(
            f"prior {directory}: expected a diffusers UNet2DModel of one channel, or of two, in and out, "
            f"found {config.get('_class_name')} of {channels[0]} in and {channels[1]} out"
        )
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise InputError(f"prior {directory}: a network that asks for an image's class is not supported")
    try:
        return UNet2DModel.from_config(config), channels[0]
    except Exception as error:  # of many kinds: diffusers does not check a configuration
        raise InputError(f"prior {directory}: its config.json describes no network ({error})") from error


def _load_checkpoint(path: Path, device: str | torch.device, micro_batch: int) -> DiffusionPrior:
    found = load_checkpoint(path)
    network = found.network
    return DiffusionPrior(
        channels_last(network.to(device)),
        found.schedule,
        "ve_score" if found.is_score else "epsilon",
        image_range=found.image_range,
        name=path.stem,
        digest=weights_digest(network.state_dict()),
        micro_batch=micro_batch,
        num_channels=found.num_channels,
        assumed=found.assumed,
    )
