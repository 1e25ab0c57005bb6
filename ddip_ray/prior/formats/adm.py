"""The U-Net of guided-diffusion (ADM), as DDIP, D3IP, DDS and SCD publish it, read into a diffusers U-Net."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ddip_ray.errors import InputError

State = dict[str, Tensor]


@dataclass(frozen=True)
class AdmConfig:
    """An ADM without classes (Dhariwal & Nichol, 2105.05233); only the heads do not show in its weights."""

    channels: tuple[int, ...]  # of each level
    num_res_blocks: int
    attention: tuple[bool, ...]  # at each level
    in_channels: int
    out_channels: int
    scale_shift_norm: bool
    resblock_updown: bool
    num_head_channels: int = 64
    new_attention_order: bool = False

    @property
    def num_levels(self) -> int:
        """Number of resolutions."""
        return len(self.channels)


def infer_adm(
    state: State, num_head_channels: int = -1, num_heads: int = -1, new_attention_order: bool = False
) -> AdmConfig:
    """Read the architecture off names and shapes, but for its heads.

    Of those either number is enough, and −1 is "not given"; without any, heads are 64 wide, or there is one
    if the network is narrower.

    Raises:
        InputError: not the weights of an ADM, or heads of several widths.
    """
    try:
        found = _infer(state)
    except (KeyError, IndexError, StopIteration) as error:
        raise InputError(f"not the weights of a guided-diffusion U-Net: {error} is missing") from error
    width = num_head_channels
    if width <= 0:
        width = min(64, found.channels[-1]) if num_heads <= 0 else _head_width(found, num_heads)
    return replace(found, num_head_channels=width, new_attention_order=new_attention_order)


def _head_width(config: AdmConfig, num_heads: int) -> int:
    attended = [channels for channels, has in zip(config.channels, config.attention, strict=True) if has]
    widths = {channels / num_heads for channels in (*attended, config.channels[-1])}
    if len(widths) > 1 or not min(widths).is_integer():
        found = ", ".join(f"{width:g}" for width in sorted(widths))
        raise InputError(
            f"num_heads {num_heads} makes heads of {found} channels; only one whole width is supported"
        )
    return int(min(widths))


def _infer(state: State) -> AdmConfig:
    if any(name.startswith("label_emb") for name in state):
        raise InputError("a class-conditional guided-diffusion U-Net is not supported")
    num_outputs = _count(state, "output_blocks")
    # Each level but the finest ends with a layer that enlarges; it stands behind block and attention.
    enlarging = [j for j in range(num_outputs) if _is_enlarging(state, j)]
    per_level = enlarging[0] + 1 if enlarging else num_outputs
    num_levels = num_outputs // per_level
    firsts = [j * per_level for j in range(num_levels)]  # output blocks from the coarsest level to the finest
    channels = [state[f"output_blocks.{j}.0.out_layers.3.weight"].shape[0] for j in reversed(firsts)]
    attention = [f"output_blocks.{j}.1.qkv.weight" in state for j in reversed(firsts)]
    width = channels[0]
    rows = state["input_blocks.1.0.emb_layers.1.weight"].shape[0]
    return AdmConfig(
        channels=tuple(channels),
        num_res_blocks=per_level - 1,
        attention=tuple(attention),
        in_channels=state["input_blocks.0.0.weight"].shape[1],
        out_channels=state["out.2.weight"].shape[0],
        scale_shift_norm=rows == 2 * width,
        resblock_updown=not any(name.endswith((".op.weight", ".conv.weight")) for name in state),
    )


def _count(state: State, block: str) -> int:
    found = {int(m[1]) for name in state if (m := re.match(rf"{block}\.(\d+)\.", name))}
    if not found:
        raise KeyError(block)
    return max(found) + 1


def _is_enlarging(state: State, j: int) -> bool:
    return any(
        f"output_blocks.{j}.{k}.{layer}" in state
        for k in (1, 2)
        for layer in ("in_layers.0.weight", "conv.weight")
    )


def build_adm(config: AdmConfig) -> nn.Module:
    """The same architecture as an untrained `diffusers.UNet2DModel`."""
    from diffusers import UNet2DModel

    plain_down = "ResnetDownsampleBlock2D" if config.resblock_updown else "DownBlock2D"
    plain_up = "ResnetUpsampleBlock2D" if config.resblock_updown else "UpBlock2D"
    resample = "resnet" if config.resblock_updown else "conv"
    network: nn.Module = UNet2DModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.channels,
        layers_per_block=config.num_res_blocks,
        down_block_types=tuple("AttnDownBlock2D" if a else plain_down for a in config.attention),
        up_block_types=tuple("AttnUpBlock2D" if a else plain_up for a in reversed(config.attention)),
        downsample_type=resample,
        upsample_type=resample,
        attention_head_dim=config.num_head_channels,
        norm_num_groups=32,
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift" if config.scale_shift_norm else "default",
    )
    return network


def adm_names(config: AdmConfig) -> dict[str, str]:
    """The name in an ADM of every module that has weights, to its name in `build_adm`'s network."""
    names = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}
    names["input_blocks.0.0"] = "conv_in"
    k = 1
    for level, has_attention in enumerate(config.attention):
        for i in range(config.num_res_blocks):
            names |= _resnet(f"input_blocks.{k}.0", f"down_blocks.{level}.resnets.{i}")
            if has_attention:
                names |= _attention(f"input_blocks.{k}.1", f"down_blocks.{level}.attentions.{i}")
            k += 1
        if level < config.num_levels - 1:
            target = f"down_blocks.{level}.downsamplers.0"
            names |= _resampler(config, f"input_blocks.{k}.0", target, "op")
            k += 1
    names |= _resnet("middle_block.0", "mid_block.resnets.0")
    names |= _attention("middle_block.1", "mid_block.attentions.0")
    names |= _resnet("middle_block.2", "mid_block.resnets.1")
    k = 0
    for level, has_attention in enumerate(reversed(config.attention)):
        for i in range(config.num_res_blocks + 1):
            names |= _resnet(f"output_blocks.{k}.0", f"up_blocks.{level}.resnets.{i}")
            if has_attention:
                names |= _attention(f"output_blocks.{k}.1", f"up_blocks.{level}.attentions.{i}")
            if level < config.num_levels - 1 and i == config.num_res_blocks:
                source = f"output_blocks.{k}.{2 if has_attention else 1}"
                names |= _resampler(config, source, f"up_blocks.{level}.upsamplers.0", "conv")
            k += 1
    return names | {"out.0": "conv_norm_out", "out.2": "conv_out"}


def adm_parameters(config: AdmConfig) -> list[str]:
    """Names in an ADM of all its parameters, in the order in which it has them."""
    ours = build_adm(config).state_dict()
    modules = [
        name
        for name, target in adm_names(config).items()
        # There are no skips where the width stays.
        if not target.endswith("conv_shortcut") or f"{target}.weight" in ours
    ]
    return [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]


def _resnet(source: str, target: str) -> dict[str, str]:
    parts = {
        "in_layers.0": "norm1",
        "in_layers.2": "conv1",
        "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2",
        "out_layers.3": "conv2",
        "skip_connection": "conv_shortcut",
    }
    return {f"{source}.{a}": f"{target}.{b}" for a, b in parts.items()}


def _attention(source: str, target: str) -> dict[str, str]:
    parts = {"norm": "group_norm", "qkv": "to_qkv", "proj_out": "to_out.0"}
    return {f"{source}.{a}": f"{target}.{b}" for a, b in parts.items()}


def _resampler(config: AdmConfig, source: str, target: str, convolution: str) -> dict[str, str]:
    if config.resblock_updown:
        return _resnet(source, target)
    return {f"{source}.{convolution}": f"{target}.conv"}


def from_adm(state: State, config: AdmConfig) -> State:
    """ADM weights under diffusers' names: attention's joint q, k and v apart, 1 x 1 convolutions as matrices.

    Of a network that also predicts its variance (twice as many outputs) only the noise estimate is kept.

    Raises:
        InputError: weights that have no place.
    """
    names, converted = adm_names(config), State()
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if module not in names:
            raise InputError(f"the weight {name} has no place in a guided-diffusion U-Net of this shape")
        target = names[module]
        if target.endswith("to_qkv"):
            base = target.removesuffix("to_qkv")
            for part, rows in zip("qkv", _split_qkv(value, config), strict=True):
                converted[f"{base}to_{part}.{kind}"] = rows
        else:
            matrix = value[..., 0] if target.endswith("to_out.0") and value.ndim == 3 else value
            converted[f"{target}.{kind}"] = matrix
    for kind in ("weight", "bias"):
        converted[f"conv_out.{kind}"] = converted[f"conv_out.{kind}"][: config.in_channels]
    return converted


def _split_qkv(value: Tensor, config: AdmConfig) -> tuple[Tensor, Tensor, Tensor]:
    """(3 c, ...) into q, k and v, each (c, ...): joint for all heads, or head by head in the older order."""
    value = value[..., 0] if value.ndim == 3 else value
    if config.new_attention_order:
        q, k, v = torch.chunk(value, 3)
        return q, k, v
    heads = value.reshape(-1, 3, config.num_head_channels, *value.shape[1:])
    q, k, v = (heads[:, i].flatten(0, 1) for i in range(3))
    return q, k, v


def noise_estimator(config: AdmConfig) -> AdmConfig:
    """The same network without the outputs that predict its variance."""
    return replace(config, out_channels=config.in_channels)
