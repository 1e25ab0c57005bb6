"""Weights of other projects: `.pt` and `.pth` files, read without executing anything in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from ddip_ray.errors import InputError
from ddip_ray.prior.adm import build_adm, from_adm, infer_adm, noise_estimator
from ddip_ray.prior.schedule import NoiseSchedule

SIDECARS = (".yaml", ".yml", ".json")


def load_checkpoint(path: Path) -> tuple[nn.Module, NoiseSchedule, tuple[float, float]]:
    """Network, schedule and image range of a guided-diffusion (ADM) checkpoint, as DDIP and SCD publish them.

    The architecture follows from the shapes. What does not is taken from a file of the same name ending in
    `.yaml`, `.yml` or `.json` beside it, if there is one, in the layout of the papers' configurations:
    ``model: {num_head_channels, use_new_attention_order}``, ``diffusion: {beta_start, beta_end,
    num_diffusion_timesteps}`` and our own ``image_range: [low, high]``; otherwise 64, false, 1e-4 to 0.02 in
    1000 steps, and −1 to 1.

    Raises:
        InputError: not such a file, it would execute code, or weights that do not fit.
    """
    state = _unwrapped(path, _read(path))
    settings = _sidecar(path)
    model, diffusion = settings.get("model", {}), settings.get("diffusion", {})
    heads = model.get("num_head_channels")
    try:
        config = infer_adm(
            state, heads if heads and heads > 0 else None, bool(model.get("use_new_attention_order", False))
        )
        network = build_adm(noise_estimator(config))
        converted = from_adm(state, config)
    except InputError as error:
        raise InputError(f"prior {path}: {error.message}", error.hint) from error
    if config.in_channels != 1 or config.out_channels not in (1, 2):
        raise InputError(
            f"prior {path}: expected 1 channel in, and 1 (or 2, with the variance) out, "
            f"found {config.in_channels} and {config.out_channels}"
        )
    try:
        network.load_state_dict({k: v.float() for k, v in converted.items()})
    except RuntimeError as error:
        raise InputError(f"prior {path}: the weights do not fit their own architecture ({error})") from error
    schedule = NoiseSchedule.linear(
        diffusion.get("num_diffusion_timesteps", 1000),
        diffusion.get("beta_start", 1e-4),
        diffusion.get("beta_end", 0.02),
    )
    low, high = settings.get("image_range", (-1.0, 1.0))
    return network, schedule, (float(low), float(high))


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"prior {path}: it holds more than tensors, and reading that would execute code from it",
            "Save its state dict alone: torch.save(model.state_dict(), …)",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"prior {path}: cannot be read as a PyTorch checkpoint ({error})") from error


def _unwrapped(path: Path, content: Any) -> dict[str, Tensor]:
    """The state dict in what was saved: bare, in an entry, or the averaged half of an EMA's."""
    for key in ("ema_model", "ema", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"prior {path}: expected a state dict of tensors, found {type(content).__name__}")
    for prefix in ("ema_model.", "module.", "model."):
        inside = {k.removeprefix(prefix): v for k, v in content.items() if k.startswith(prefix)}
        if inside:
            return inside
    return content


def _sidecar(path: Path) -> dict[str, Any]:
    for suffix in SIDECARS:
        beside = path.with_suffix(suffix)
        if beside.is_file():
            content = yaml.safe_load(beside.read_text())
            if not isinstance(content, dict):
                raise InputError(f"{beside}: expected a mapping, found {type(content).__name__}")
            return content
    return {}
