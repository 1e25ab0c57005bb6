"""NCSN++ of score_sde, as Score-MRI and DiffusionMBIR publish it: a score network of the VE-SDE."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddip_ray.errors import InputError

Role = Literal[
    "fourier",
    "dense",
    "in",
    "block",
    "skip_attention",
    "down",
    "pyramid",
    "middle",
    "attention",
    "join",
    "up",
    "norm",
    "out",
]
State = dict[str, Tensor]
_KERNEL = (1.0, 3.0, 3.0, 1.0)
_RESCALE = math.sqrt(0.5)  # a sum of two branches keeps its variance


@dataclass(frozen=True)
class NcsnppConfig:
    """Residual blocks of BigGAN with FIR resampling, Fourier features of log σ (Song et al., 2011.13456)."""

    width: int
    multipliers: tuple[int, ...]  # of the width, at each level
    num_res_blocks: int
    attention: tuple[bool, ...]  # at each level
    residual_input: bool  # whether the input joins each level again
    num_channels: int = 1


@dataclass(frozen=True)
class Place:
    """A module in score_sde's flat list: its role, and channels in and out."""

    role: Role
    inputs: int
    outputs: int


def layout(config: NcsnppConfig) -> Iterator[Place]:
    """The modules in the order in which score_sde numbers them."""
    width, last = config.width, len(config.multipliers) - 1
    yield Place("fourier", 1, 2 * width)
    yield Place("dense", 2 * width, 4 * width)
    yield Place("dense", 4 * width, 4 * width)
    yield Place("in", config.num_channels, width)
    channels, skips, pyramid = width, [width], config.num_channels
    for level, multiplier in enumerate(config.multipliers):
        for _ in range(config.num_res_blocks):
            yield Place("block", channels, width * multiplier)
            channels = width * multiplier
            if config.attention[level]:
                yield Place("skip_attention", channels, channels)
            skips.append(channels)
        if level != last:
            yield Place("down", channels, channels)
            if config.residual_input:
                yield Place("pyramid", pyramid, channels)
                pyramid = channels
            skips.append(channels)
    yield Place("middle", channels, channels)
    yield Place("attention", channels, channels)
    yield Place("middle", channels, channels)
    for level, multiplier in reversed(list(enumerate(config.multipliers))):
        for _ in range(config.num_res_blocks + 1):
            yield Place("join", channels + skips.pop(), width * multiplier)
            channels = width * multiplier
        if config.attention[level]:
            yield Place("attention", channels, channels)
        if level != 0:
            yield Place("up", channels, channels)
    yield Place("norm", channels, channels)
    yield Place("out", channels, config.num_channels)


class Ncsnpp(nn.Module):
    """The score ∇ log p_σ(x) of images in 0…1: (x: (z, c, y, x), σ: (z,)) to an object with ``sample``.

    Parameters have score_sde's names. Attention is where the checkpoint has it, whatever the image's size.
    """

    def __init__(self, config: NcsnppConfig) -> None:
        super().__init__()
        self.places = list(layout(config))
        self.all_modules = nn.ModuleList(_module(place, 4 * config.width) for place in self.places)
        # What `DiffusionPrior` asks of a U-Net: how many levels there are.
        self.config = {"block_out_channels": config.multipliers}

    def forward(self, x: Tensor, sigma: Tensor) -> SimpleNamespace:
        """The score of ``x: (z, channel, y, x)`` at noise levels ``sigma: (z,)``, in ``sample``."""
        steps = iter(zip(self.places, self.all_modules, strict=True))
        embedding = next(steps)[1](sigma.log())
        embedding = next(steps)[1](embedding)
        embedding = next(steps)[1](functional.silu(embedding))
        pyramid = 2 * x - 1
        h = next(steps)[1](pyramid)
        skips = [h]
        for place, module in steps:
            match place.role:
                case "block" | "down":
                    h = module(h, embedding)
                    skips.append(h)
                case "skip_attention":
                    h = skips[-1] = module(h)
                case "pyramid":
                    h = pyramid = skips[-1] = (module(pyramid) + h) * _RESCALE
                case "join":
                    h = module(torch.cat([h, skips.pop()], dim=1), embedding)
                case "middle" | "up":
                    h = module(h, embedding)
                case "norm":
                    h = functional.silu(module(h))
                case _:
                    h = module(h)
        return SimpleNamespace(sample=h / sigma.reshape(-1, 1, 1, 1))


def _module(place: Place, embedding: int) -> nn.Module:
    inputs, outputs = place.inputs, place.outputs
    makers: dict[str, Callable[[], nn.Module]] = {
        "fourier": lambda: _Fourier(outputs // 2),
        "dense": lambda: nn.Linear(inputs, outputs),
        "in": lambda: nn.Conv2d(inputs, outputs, 3, padding=1),
        "out": lambda: nn.Conv2d(inputs, outputs, 3, padding=1),
        "attention": lambda: _Attention(inputs),
        "skip_attention": lambda: _Attention(inputs),
        "pyramid": lambda: _Pyramid(inputs, outputs),
        "norm": lambda: _group_norm(inputs),
    }
    return makers.get(place.role, lambda: _Block(place, embedding))()


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


class _Fourier(nn.Module):
    """sin and cos of 2π W log σ, with fixed random W."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(16 * torch.randn(size), requires_grad=False)

    def forward(self, log_sigma: Tensor) -> Tensor:
        angle = 2 * math.pi * log_sigma[:, None] * self.W
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class _Block(nn.Module):
    """Residual block, at twice or half the size where its role says so."""

    def __init__(self, place: Place, embedding: int) -> None:
        super().__init__()
        self.role = place.role
        self.GroupNorm_0 = _group_norm(place.inputs)
        self.Conv_0 = nn.Conv2d(place.inputs, place.outputs, 3, padding=1)
        self.Dense_0 = nn.Linear(embedding, place.outputs)
        self.GroupNorm_1 = _group_norm(place.outputs)
        self.Conv_1 = nn.Conv2d(place.outputs, place.outputs, 3, padding=1)
        changes = place.inputs != place.outputs or place.role in ("down", "up")
        self.Conv_2 = nn.Conv2d(place.inputs, place.outputs, 1) if changes else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.resampled(functional.silu(self.GroupNorm_0(x)))
        h = self.Conv_0(h) + self.Dense_0(functional.silu(embedding))[:, :, None, None]
        h = self.Conv_1(functional.silu(self.GroupNorm_1(h)))
        out: Tensor = (self.Conv_2(self.resampled(x)) + h) * _RESCALE
        return out

    def resampled(self, x: Tensor) -> Tensor:
        if self.role == "down":
            return _filtered(x, down=2, pad=(1, 1))
        if self.role == "up":
            return 4 * _filtered(x, up=2, pad=(2, 1))  # three of four samples are zeros
        return x


class _Pyramid(nn.Module):
    """The input at half the size: a convolution with a stride, after the FIR filter."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.Conv2d_0 = nn.Conv2d(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.Conv2d_0(_filtered(x, pad=(2, 2)))
        return out


class _Projection(nn.Module):
    """A 1 x 1 convolution, its matrix stored as (in, out)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(channels, channels) / channels**0.5)
        self.b = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(z, n, c) both."""
        return x @ self.W + self.b


class _Attention(nn.Module):
    """Self-attention over all pixels, one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.GroupNorm_0 = _group_norm(channels)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (_Projection(channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.GroupNorm_0(x).flatten(2).transpose(1, 2)
        h = functional.scaled_dot_product_attention(self.NIN_0(h), self.NIN_1(h), self.NIN_2(h))
        h = self.NIN_3(h).transpose(1, 2).reshape(x.shape)
        out: Tensor = (x + h) * _RESCALE
        return out


def _filtered(x: Tensor, *, pad: tuple[int, int], up: int = 1, down: int = 1) -> Tensor:
    """The outer product of 1, 3, 3, 1, of sum 1, between resampling by zeros and by leaving out."""
    from diffusers.models.upsampling import upfirdn2d_native

    taps = x.new_tensor(_KERNEL)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    out: Tensor = upfirdn2d_native(x, kernel, up=up, down=down, pad=pad)
    return out


def infer_ncsnpp(state: State) -> NcsnppConfig:
    """Read the architecture off names and shapes.

    Raises:
        InputError: not the weights of such a network, or of a kind that the papers do not use.
    """
    try:
        kinds = [_kind(state, k) for k in range(_num_modules(state))]
        width = state["all_modules.0.W"].shape[0]
        num_channels = state["all_modules.3.weight"].shape[1]
    except KeyError as error:
        raise InputError(f"not the weights of an NCSN++ with Fourier features: {error} is missing") from error
    num_levels = kinds.count("resampling") // 2 + 1
    num_res_blocks = (kinds.count("block") - 2 - num_levels) // (2 * num_levels)
    multipliers, attention, k = [], [], 4
    for _ in range(num_levels):
        multipliers.append(state[f"all_modules.{k}.Conv_0.weight"].shape[0] // width)
        attention.append(kinds[k + 1] == "attention")
        k += num_res_blocks * (1 + attention[-1]) + (2 if "pyramid" in kinds else 1)
    config = NcsnppConfig(
        width, tuple(multipliers), num_res_blocks, tuple(attention), "pyramid" in kinds, num_channels
    )
    if [_KINDS.get(place.role, place.role) for place in layout(config)] != kinds:
        raise InputError(
            "an NCSN++ of a kind that is not supported",
            "Supported are BigGAN blocks with FIR resampling, progressive 'none', "
            "progressive_input 'residual' or 'none', as in the published CT and MRI configurations.",
        )
    return config


_KINDS = {
    "skip_attention": "attention",
    "middle": "block",
    "join": "block",
    "down": "resampling",
    "up": "resampling",
    "in": "convolution",
    "out": "convolution",
}


def _num_modules(state: State) -> int:
    found = [int(m[1]) for name in state if (m := re.match(r"all_modules\.(\d+)\.", name))]
    if not found:
        raise KeyError("all_modules")
    return max(found) + 1


def _kind(state: State, k: int) -> str:
    """The kind of module ``k``, from the names and shapes of its weights."""
    prefix = f"all_modules.{k}."
    shapes = {name.removeprefix(prefix): v.shape for name, v in state.items() if name.startswith(prefix)}
    if "Conv_0.weight" in shapes:
        outputs, inputs = shapes["Conv_0.weight"][:2]
        return "resampling" if "Conv_2.weight" in shapes and inputs == outputs else "block"
    if "NIN_0.W" in shapes:
        return "attention"
    if "Conv2d_0.weight" in shapes:
        return "pyramid"
    if "W" in shapes:
        return "fourier"
    return {1: "norm", 2: "dense", 4: "convolution"}.get(len(shapes.get("weight", ())), "unknown")
