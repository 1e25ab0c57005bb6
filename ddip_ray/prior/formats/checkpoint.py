"""Weights of other projects: `.pt` and `.pth` files, read without executing anything in them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddip_ray.errors import InputError
from ddip_ray.prior.formats.adm import State, adm_parameters, build_adm, from_adm, infer_adm, noise_estimator
from ddip_ray.prior.formats.ncsnpp import Ncsnpp, infer_ncsnpp
from ddip_ray.prior.formats.sidecar import ModelPart, read_sidecar
from ddip_ray.prior.schedule import NoiseSchedule

HEADS_ASSUMED = "heads of attention 64 channels wide; num_heads or num_head_channels beside it would say"


@dataclass(frozen=True)
class Checkpoint:
    """A network of another project; ``is_score``: of the VE-SDE, otherwise it estimates the noise of DDPM.

    ``assumed`` names what neither its weights nor a file beside them say.
    """

    network: nn.Module
    schedule: NoiseSchedule
    image_range: tuple[float, float]
    is_score: bool
    num_channels: int
    assumed: str


def load_checkpoint(path: Path) -> Checkpoint:
    """A guided-diffusion (ADM) checkpoint, as DDIP, DDS and SCD publish them, or one of score_sde's NCSN++.

    The architecture follows from the names and shapes of the weights. What does not is taken from a file of
    the same name ending in `.yaml`, `.yml` or `.json` beside it, if there is one, in the layout of the
    papers' configurations: ``model: {num_head_channels, num_heads, use_new_attention_order}``, ``diffusion:
    {beta_start, beta_end, num_diffusion_timesteps}`` and our own ``image_range: [low, high]``; otherwise
    heads of 64, false, 1e-4 to 0.02 in 1000 steps, and 0 to 1, in which those projects train. Averages
    without names (``shadow_params``, as D3IP loads its ellipses' prior) need ``num_channels, num_res_blocks,
    attention_resolutions, image_size`` of the ``model``, too.

    Raises:
        InputError: not such a file, it would execute code, or weights that do not fit.
    """
    content, said = _read(path), read_sidecar(path)
    try:
        state = _unwrapped(content, said.architecture)
        is_score = any(name.startswith("all_modules.") for name in state)
        network, converted, num_channels = _ncsnpp(state) if is_score else _adm(state, said.architecture)
        network.load_state_dict({k: v.float() for k, v in converted.items()})
    except InputError as error:
        raise InputError(f"prior {path}: {error.message}", error.hint) from error
    except Exception as error:  # of many kinds, by shapes and names that make no network
        found = f"{type(error).__name__}: {error}"
        raise InputError(f"prior {path}: the weights do not fit their own architecture ({found})") from error
    if num_channels not in (1, 2):
        raise InputError(f"prior {path}: expected a network for 1 channel, or 2, found {num_channels}")
    assumed = "" if is_score or said.architecture.says_heads else HEADS_ASSUMED
    return Checkpoint(network, said.schedule, said.image_range, is_score, num_channels, assumed)


def _adm(state: State, said: ModelPart) -> tuple[nn.Module, State, int]:
    config = infer_adm(state, said.num_head_channels, said.num_heads, said.use_new_attention_order)
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


def _unwrapped(content: Any, said: ModelPart) -> State:
    """The state dict in what was saved: bare, in an entry, or the averaged half of an EMA's."""
    if isinstance(content, dict) and "shadow_params" in content:
        return _named(content["shadow_params"], adm_parameters(said.adm()))
    averages = content.get("ema") if isinstance(content, dict) else None
    for key in ("ema_model", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"expected a state dict of tensors, found {type(content).__name__}")
    state: State = dict(content)
    for prefix in ("ema_model.", "module.", "model."):
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} or state
    state.pop("sigmas", None)  # score_sde's noise levels, a constant
    if isinstance(averages, dict) and "shadow_params" in averages:
        # In the order of the parameters that were trained; the Fourier features were not.
        trained = [name for name in state if not name.endswith("all_modules.0.W")]
        named = _named(averages["shadow_params"], trained)
        if any(named[name].shape != state[name].shape for name in trained):
            raise InputError("its averaged weights (ema) do not fit its weights (model)")
        state |= named
    return state


def _named(shadow: list[Tensor], names: list[str]) -> State:
    """Averages that were saved as a list, in the order of the parameters."""
    if len(shadow) != len(names):
        raise InputError(f"its averaged weights are {len(shadow)} tensors, the network has {len(names)}")
    return dict(zip(names, shadow, strict=True))
