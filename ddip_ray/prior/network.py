"""The architecture of the shipped prior: a diffusers U-Net with attention at its coarsest level."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ddip_ray.prior.denoiser import channels_last


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
