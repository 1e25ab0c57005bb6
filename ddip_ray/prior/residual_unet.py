"""Our own denoiser: a residual U-Net that works at half resolution, with EDM preconditioning.

Most of the time of a U-Net goes into its first level, where an image has most pixels and fewest channels.
This one turns 2 × 2 pixels into four channels first (Zhang et al. 2018, "FFDNet: Toward a fast and flexible
solution for CNN-based image denoising", 1710.04026). It has no normalisation and no attention (Zhang et al.
2021, "Plug-and-play image restoration with deep denoiser prior", 2008.13751), and predicts what
preconditioning leaves to it (Karras et al. 2022, "Elucidating the design space of diffusion-based generative
models", 2206.00364).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddip_ray.errors import InputError
from ddip_ray.prior.schedule import NoiseSchedule

CLASS_NAME = "ResidualUNet"  # in config.json
SIGNAL_STD = 0.5  # of images in −1 … 1, around 0: EDM's σ_data
HIGHEST_STD = 4.0  # more noise looks to the network like this much: nothing is left to be seen
_EMBEDDING = 64


@dataclass(frozen=True)
class ResidualUNetConfig:
    """Channels of each level, finest (half resolution) first, and residual blocks a level and side."""

    channels: tuple[int, ...] = (48, 96, 192, 256)
    blocks: tuple[int, ...] = (2, 2, 2, 2)

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> ResidualUNetConfig:
        """The configuration that `ResidualUNet.config` wrote.

        Raises:
            InputError: levels that are not positive whole numbers, or not as many of both.
        """
        channels, blocks = config.get("channels"), config.get("blocks")
        levels = [channels, blocks]
        if not all(isinstance(a, list) and all(isinstance(n, int) and n > 0 for n in a) for a in levels):
            raise InputError(f"expected channels and blocks of each level, found {channels!r} and {blocks!r}")
        assert isinstance(channels, list)
        assert isinstance(blocks, list)
        if not channels or len(channels) != len(blocks):
            raise InputError(
                f"expected channels and blocks for the same levels, found {channels} and {blocks}"
            )
        return cls(tuple(channels), tuple(blocks))


class Prediction(NamedTuple):
    """The return value of diffusers' networks: the estimate is in ``sample``."""

    sample: Tensor


class ResidualUNet(nn.Module):
    """A denoiser for images in −1 … 1, read as a noise estimator of a discrete schedule.

    ``precision`` is the type that convolutions compute in; weights, skips around the network and results stay
    float32.
    """

    alpha_bar: Tensor

    def __init__(self, config: ResidualUNetConfig, schedule: NoiseSchedule | None = None) -> None:
        super().__init__()
        self.architecture = config
        self.precision = torch.float32
        alpha_bar = (schedule or NoiseSchedule.linear()).alpha_bar
        self.register_buffer("alpha_bar", alpha_bar.clone(), persistent=False)
        self.backbone = Backbone(config)

    @property
    def config(self) -> dict[str, Any]:
        """The architecture, as ``config.json`` has it."""
        return {"channels": list(self.architecture.channels), "blocks": list(self.architecture.blocks)}

    @property
    def size_multiple(self) -> int:
        """Heights and widths must be multiples of this."""
        multiple: int = 2 ** len(self.architecture.channels)
        return multiple

    def forward(self, x_t: Tensor, t: Tensor) -> Prediction:
        """The noise ε in x_t = √ᾱ x₀ + √(1−ᾱ) ε.

        Args:
            x_t: (z, 1, y, x), sides multiples of `size_multiple`.
            t: (z,) timesteps.
        """
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        std = ((1 - alpha_bar) / alpha_bar).sqrt().float()
        noisy = x_t / alpha_bar.sqrt().float()
        # (noisy − D) / std with D of `denoise`, written without the difference of nearly equal images.
        variance = std**2 + SIGNAL_STD**2
        residual = self.residual(noisy, std)
        return Prediction(std / variance * noisy - SIGNAL_STD / variance.sqrt() * residual)

    def denoise(self, noisy: Tensor, std: Tensor) -> Tensor:
        """D(x₀ + σ ε; σ), the posterior mean of x₀.

        Args:
            noisy: (z, 1, y, x), images in −1 … 1 plus white noise.
            std: (z, 1, 1, 1), its σ on that scale.
        """
        variance = std**2 + SIGNAL_STD**2
        skipped = SIGNAL_STD**2 / variance * noisy
        return skipped + std * SIGNAL_STD / variance.sqrt() * self.residual(noisy, std)

    def residual(self, noisy: Tensor, std: Tensor) -> Tensor:
        """The target that EDM gives the network; it has unit variance at every noise level."""
        scaled = noisy / (std**2 + SIGNAL_STD**2).sqrt()
        level = std.clamp(max=HIGHEST_STD).log().flatten(1) / 4
        lowered = self.precision != torch.float32
        with torch.autocast(noisy.device.type, self.precision, enabled=lowered):
            out: Tensor = self.backbone(scaled, level)
        return out.float()


class Backbone(nn.Module):
    """A U-Net of residual blocks between pixel-unshuffling and pixel-shuffling."""

    def __init__(self, config: ResidualUNetConfig) -> None:
        super().__init__()
        channels, blocks = config.channels, config.blocks
        pairs = list(itertools.pairwise(channels))
        self.embedding = nn.Sequential(
            nn.Linear(1, _EMBEDDING), nn.SiLU(), nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU()
        )
        self.head = nn.Conv2d(4, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(Level(c, n) for c, n in zip(channels, blocks, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(Level(c, n) for c, n in zip(channels[:-1], blocks[:-1], strict=True))
        self.tail = nn.Conv2d(channels[0], 4, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(z, 1, y, x), (z, 1) -> (z, 1, y, x)."""
        embedding = self.embedding(level)
        h = self.head(functional.pixel_unshuffle(x, 2))
        skips = []
        for encode, down in zip(self.encoder, self.down, strict=False):
            h = encode(h, embedding)
            skips.append(h)
            h = down(h)
        h = self.encoder[-1](h, embedding)
        for up, decode, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            h = decode(up(h) + skip, embedding)
        return functional.pixel_shuffle(self.tail(h), 2)


class Level(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels) for _ in range(num_blocks))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features (z, channel, y, x) after all blocks."""
        for block in self.blocks:
            x = block(x, embedding)
        return x


class Block(nn.Module):
    """x plus two convolutions of it; the noise level scales the channels between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Linear(_EMBEDDING, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # a block starts as the identity
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features (z, channel, y, x), with the block's residual added."""
        scale = 1 + self.scale(embedding)[:, :, None, None]
        out: Tensor = x + self.second(functional.silu(scale * self.first(x)))
        return out
