"""Weights of other projects: `.pt` and `.pth` files, read without executing anything in them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from ddip_ray.errors import InputError
from ddip_ray.prior.adm import State, build_adm, from_adm, infer_adm, noise_estimator
from ddip_ray.prior.ncsnpp import Ncsnpp, infer_ncsnpp
from ddip_ray.prior.schedule import NoiseSchedule

SIDECARS = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Checkpoint:
    """A network of another project; ``is_score``: of the VE-SDE, otherwise it estimates the noise of DDPM."""

    network: nn.Module
    schedule: NoiseSchedule
    image_range: tuple[float, float]
    is_score: bool
    num_channels: int


def load_checkpoint(path: Path) -> Checkpoint:
    """A guided-diffusion (ADM) checkpoint, as DDIP, DDS and SCD publish them, or one of score_sde's NCSN++.

    The architecture follows from the shapes. What does not is taken from a file of the same name ending in
    `.yaml`, `.yml` or `.json` beside it, if there is one, in the layout of the papers' configurations:
    ``model: {num_head_channels, use_new_attention_order}``, ``diffusion: {beta_start, beta_end,
    num_diffusion_timesteps}`` and our own ``image_range: [low, high]``; otherwise 64, false, 1e-4 to 0.02 in
    1000 steps, and −1 to 1 (0 to 1 for NCSN++, and for two channels: complex images).

    Raises:
        InputError: not such a file, it would execute code, or weights that do not fit.
    """
    state = _unwrapped(path, _read(path))
    settings = _sidecar(path)
    model, diffusion = settings.get("model", {}), settings.get("diffusion", {})
    is_score = any(name.startswith("all_modules.") for name in state)
    try:
        network, converted, num_channels = _ncsnpp(state) if is_score else _adm(state, model)
        network.load_state_dict({k: v.float() for k, v in converted.items()})
    except InputError as error:
        raise InputError(f"prior {path}: {error.message}", error.hint) from error
    except RuntimeError as error:
        raise InputError(f"prior {path}: the weights do not fit their own architecture ({error})") from error
    if num_channels not in (1, 2):
        raise InputError(f"prior {path}: expected a network for 1 channel, or 2, found {num_channels}")
    schedule = NoiseSchedule.linear(
        diffusion.get("num_diffusion_timesteps", 1000),
        diffusion.get("beta_start", 1e-4),
        diffusion.get("beta_end", 0.02),
    )
    low, high = settings.get("image_range", (0.0, 1.0) if is_score or num_channels == 2 else (-1.0, 1.0))
    return Checkpoint(network, schedule, (float(low), float(high)), is_score, num_channels)


def _adm(state: State, model: dict[str, Any]) -> tuple[nn.Module, State, int]:
    heads = model.get("num_head_channels") or -1  # -1 is guided-diffusion's own "not given"
    config = infer_adm(state, heads if heads > 0 else None, bool(model.get("use_new_attention_order", False)))
    if config.out_channels not in (config.in_channels, 2 * config.in_channels):
        raise InputError(
            f"expected as many channels out as in, or twice as many (with the variance), "
            f"found {config.in_channels} and {config.out_channels}"
        )
    return build_adm(noise_estimator(config)), from_adm(state, config), config.in_channels


def _ncsnpp(state: State) -> tuple[nn.Module, State, int]:
    config = infer_ncsnpp(state)
    return Ncsnpp(config), state, config.num_channels


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


def _unwrapped(path: Path, content: Any) -> State:
    """The state dict in what was saved: bare, in an entry, or the averaged half of an EMA's."""
    averages = content.get("ema") if isinstance(content, dict) else None
    for key in ("ema_model", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"prior {path}: expected a state dict of tensors, found {type(content).__name__}")
    state: State = dict(content)
    for prefix in ("ema_model.", "module.", "model."):
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} or state
    state.pop("sigmas", None)  # score_sde's noise levels, a constant
    if isinstance(averages, dict) and "shadow_params" in averages:
        state |= _averaged(path, state, averages["shadow_params"])
    return state


def _averaged(path: Path, state: State, shadow: list[Tensor]) -> State:
    """score_sde keeps averages as a list, in the order of the parameters that were trained."""
    trained = [
        name for name in state if not name.endswith("all_modules.0.W")
    ]  # the Fourier features were not
    shapes = [tuple(state[name].shape) for name in trained]
    if shapes != [tuple(value.shape) for value in shadow]:
        raise InputError(f"prior {path}: its averaged weights (ema) do not fit its weights (model)")
    return dict(zip(trained, shadow, strict=True))


def _sidecar(path: Path) -> dict[str, Any]:
    for suffix in SIDECARS:
        beside = path.with_suffix(suffix)
        if beside.is_file():
            content = yaml.safe_load(beside.read_text())
            if not isinstance(content, dict):
                raise InputError(f"{beside}: expected a mapping, found {type(content).__name__}")
            return content
    return {}
