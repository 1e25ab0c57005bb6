"""The denoising network: build, load and save a diffusers U-Net with what the maths needs to know."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddip_ray.errors import InputError
from ddip_ray.prior.catalog import CHECKPOINTS
from ddip_ray.prior.checkpoint import load_checkpoint
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.prior.scheduler_config import read_json, read_scheduler
from ddip_ray.prior.sidecar import load_card
from ddip_ray.threads import one_thread

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # weights are never fetched at run time

Prediction = Literal["epsilon", "v_prediction", "sample", "ve_score"]
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class NetworkConfig:
    """A U-Net with attention at its coarsest level only, so that any slice size is affordable."""

    channels: tuple[int, ...] = (32, 64, 96, 128)
    layers_per_block: int = 1
    norm_num_groups: int = 8
    attention_head_dim: int = 32


def build_network(config: NetworkConfig) -> nn.Module:
    """A fresh `diffusers.UNet2DModel` for one-channel images of any size."""
    from diffusers import UNet2DModel

    plain = len(config.channels) - 1
    network: nn.Module = UNet2DModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        attention_head_dim=config.attention_head_dim,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
    )
    return channels_last(network)


def channels_last(network: nn.Module) -> nn.Module:
    """The memory order in which convolutions run fastest on a CPU and on a GPU's tensor cores."""
    converted: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return converted


class DiffusionPrior:
    """A noise-conditional network read as a Tweedie denoiser.

    Images are in the range the network was trained on (``image_range``, usually −1…1): an image ``u`` in
    0…1 is ``low + (high − low) u`` here. A network of one channel is for real images, and for the real and
    the imaginary part of complex ones; one of two channels for both parts together. Every other difference
    between networks (what they predict, which sizes they take) ends in this class.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        prediction: Prediction,
        *,
        image_range: tuple[float, float] = (-1.0, 1.0),
        name: str = "",
        digest: str = "",
        micro_batch: int = 1,
        num_channels: int = 1,
        assumed: str = "",
    ) -> None:
        self.num_channels, self.assumed = num_channels, assumed
        self.network = network.eval().requires_grad_(False)
        self.schedule = schedule
        self.prediction = prediction
        self.image_range = image_range
        self.name = name
        self.digest = digest
        self.micro_batch = micro_batch  # slices a call
        config = getattr(network, "config", None)
        levels = len(config["block_out_channels"]) if config is not None else 1
        self.size_multiple = 2 ** (levels - 1)

    def denoise(
        self, x_t: Tensor, t: int, network: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tweedie: the posterior mean of the clean image and the matching noise estimate.

        Args:
            x_t: (z, y, x) noisy slices, any size: padded to what the network takes, and cropped back.
                Of complex ones the real and the imaginary part are channels, or slices of their own where
                the network has one channel.
            t: timestep, 0 … num_train_timesteps − 1.
            network: called instead of the plain network, for an adapted one.

        Returns:
            (x0_hat, eps_hat), both (z, y, x), with x_t = √ᾱ x0_hat + √(1−ᾱ) eps_hat.
        """
        parts = torch.view_as_real(x_t).movedim(-1, 1) if x_t.is_complex() else x_t[:, None]
        x0_hat, eps_hat = self._denoise(parts.reshape(-1, self.num_channels, *x_t.shape[-2:]), t, network)
        if not x_t.is_complex():
            return x0_hat[:, 0], eps_hat[:, 0]
        return _joined(x0_hat), _joined(eps_hat)

    def _denoise(
        self, x_t: Tensor, t: int, network: Callable[[Tensor, Tensor], Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """`denoise` of ``x_t: (z, channel, y, x)``."""
        alpha_bar = self.schedule.at(t)
        signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        if self.prediction == "ve_score":
            # The same state in the VE-SDE's scale, x0 + σ z: the score of that is −z/σ.
            sigma = noise / signal
            eps_hat = -sigma * self._predict(x_t / signal, sigma, network or self.network_forward)
            return (x_t - noise * eps_hat) / signal, eps_hat
        out = self._predict(x_t, t, network or self.network_forward)
        if self.prediction == "v_prediction":
            return signal * x_t - noise * out, signal * out + noise * x_t
        if self.prediction == "sample":
            return out, (x_t - signal * out) / noise
        return (x_t - noise * out) / signal, out

    def network_forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(z, channel, y, x), (z,) -> (z, channel, y, x)."""
        out: Tensor = self.network(x, t).sample
        return out

    def _predict(self, x_t: Tensor, condition: float, network: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The network's output for ``x_t: (z, channel, y, x)`` at timestep (an int) or noise level."""
        ny, nx = x_t.shape[-2:]
        m = self.size_multiple
        top, left = (-ny % m) // 2, (-nx % m) // 2
        padding = (left, -nx % m - left, top, -ny % m - top)
        x = x_t
        if any(padding):
            # Reflection keeps the noise statistics at the border; it needs more rows than it mirrors.
            mode = "reflect" if min(ny, nx) > m else "replicate"
            x = functional.pad(x, padding, mode=mode)
        x = x.contiguous(memory_format=torch.channels_last)
        with one_thread():
            out = network(x, torch.full((len(x),), condition, device=x.device))
        return out[..., top : top + ny, left : left + nx]


def _joined(parts: Tensor) -> Tensor:
    """Real and imaginary parts, (z, 2, y, x), or in turn, (2 z, 1, y, x), as complex slices (z, y, x)."""
    real, imaginary = parts.reshape(-1, 2, *parts.shape[-2:]).unbind(1)
    return torch.complex(real, imaginary)


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
    config["_class_name"] = "UNet2DModel"
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    scheduler = {"_class_name": "DDPMScheduler", **schedule_config}
    (directory / "scheduler_config.json").write_text(json.dumps(scheduler, indent=1) + "\n")
    (directory / "card.json").write_text(
        json.dumps({**card, "digest": weights_digest(state)}, indent=1) + "\n"
    )


def load_prior(
    directory: Path, device: str | torch.device = "cpu", micro_batch: int | None = None
) -> DiffusionPrior:
    """Read a diffusers directory: ours, a bare U-Net, or a pipeline with ``unet/`` and ``scheduler/``.

    Or a guided-diffusion checkpoint (`load_checkpoint`). Without a range in its card, a prior of two channels
    has complex images as they are. ``micro_batch`` None is 1 slice a call on a CPU,
    where more gain nothing, and 8 on a GPU.

    Raises:
        InputError: no such directory, not a `UNet2DModel` of one or two channels, one for classes, weights
            that do not fit or do not match the digest recorded beside them, or a schedule we do not know.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size = micro_batch or (1 if torch.device(device).type == "cpu" else 8)
    if directory.suffix in CHECKPOINTS:
        return _load_checkpoint(directory, device, size)
    unet = directory / "unet" if (directory / "unet").is_dir() else directory
    config = read_json(unet / "config.json")
    network, num_channels = _unet(config, directory)
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
    digest, scheduler = weights_digest(state), read_scheduler(directory)
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
