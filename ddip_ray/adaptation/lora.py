"""Low-rank adapters: a small change to a network's weights, kept apart from the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddip_ray.errors import InputError


@dataclass(frozen=True)
class LoraConfig:
    """Which weights are adapted, and with how many degrees of freedom.

    Hu et al. (LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, 2106.09685).

    Attributes:
        rank: rank of the change of each weight.
        scale: factor on the product of the two factors.
        convolutions: whether convolutions are adapted.
        attention: whether attention projections are adapted.
        init_std: standard deviation of the down factors at initialisation; None is 1/√fan_in.
    """

    rank: int = 4
    scale: float = 1.0
    convolutions: bool = True
    attention: bool = True
    init_std: float | None = None


def adapted_weights(network: nn.Module, config: LoraConfig) -> list[str]:
    """Names of the weights an adapter changes: convolutions and attention projections, no biases."""
    names = []
    for name, module in network.named_modules():
        is_convolution = config.convolutions and isinstance(module, nn.Conv2d)
        is_projection = config.attention and isinstance(module, nn.Linear) and ".attentions." in f".{name}"
        if is_convolution or is_projection:
            names.append(f"{name}.weight")
    return names


class Adapter:
    """The low-rank change ΔW = scale · up · down for every adapted weight of one network.

    ``parameters`` is an ordered dict of leaf tensors: what is trained is what is saved is what
    is sent to workers. The network itself is never modified.
    """

    def __init__(self, parameters: dict[str, Tensor], config: LoraConfig) -> None:
        self.parameters = parameters
        self.config = config

    @classmethod
    def create(cls, network: nn.Module, config: LoraConfig, seed: int) -> Adapter:
        """A fresh adapter: its up factors are zero, so the adapted network is the plain one."""
        generator = torch.Generator().manual_seed(seed)
        weights = dict(network.named_parameters())
        parameters: dict[str, Tensor] = {}
        for name in adapted_weights(network, config):
            weight = weights[name]
            rows, columns = weight.shape[0], weight[0].numel()
            rank = min(config.rank, rows, columns)
            down = torch.randn(rank, columns, generator=generator)
            down = down / columns**0.5 if config.init_std is None else config.init_std * down
            parameters[f"{name}.lora_down"] = down.to(weight.device).requires_grad_()
            parameters[f"{name}.lora_up"] = torch.zeros(rows, rank, device=weight.device).requires_grad_()
        return cls(parameters, config)

    def bind(self, network: nn.Module, strength: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
        """The adapted network as a function (x: (z, 1, y, x), t: (z,)) -> (z, 1, y, x).

        ``strength`` multiplies the change of the weights.

        The product is added to the weight and the plain convolution run: measured several times
        faster than separate low-rank convolutions. Differentiable in ``parameters``.
        """
        merged: dict[str, Tensor] = {}
        weights = dict(network.named_parameters())
        for name in adapted_weights(network, self.config):
            up, down = self.parameters[f"{name}.lora_up"], self.parameters[f"{name}.lora_down"]
            change = (strength * self.config.scale * (up @ down)).reshape(weights[name].shape)
            merged[name] = weights[name] + change

        def adapted(x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = functional_call(network, merged, (x, t)).sample
            return out

        return adapted

    def copy(self) -> Adapter:
        """The same values, to be trained apart."""
        parameters = {k: v.detach().clone().requires_grad_() for k, v in self.parameters.items()}
        return Adapter(parameters, self.config)

    def at_strength(self, strength: float) -> Adapter:
        """A copy with ``strength`` times the change; 0 gives a fresh adapter, which can still be trained."""
        other = self.copy()
        with torch.no_grad():
            for name, parameter in other.parameters.items():
                if name.endswith(".lora_up"):
                    parameter.mul_(strength)
        return other

    def changes_weights(self) -> bool:
        """Whether the adapted network differs from the plain one."""
        return any(bool(p.any()) for name, p in self.parameters.items() if name.endswith(".lora_up"))

    def flat(self) -> Tensor:
        """All values in one vector, (num_parameters,), detached."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters.values()])

    def add(self, change: Tensor) -> None:
        """Add to the values a vector in the order of `flat`."""
        with torch.no_grad():
            for parameter, part in zip(self.parameters.values(), self.split(change), strict=True):
                parameter.add_(part)

    def load(self, values: Tensor) -> None:
        """Take all values from a vector in the order of `flat`."""
        with torch.no_grad():
            for parameter, part in zip(self.parameters.values(), self.split(values), strict=True):
                parameter.copy_(part)

    def split(self, flat: Tensor) -> list[Tensor]:
        """A vector in the order of `flat` as tensors of the parameters' shapes."""
        parts = torch.split(flat, [p.numel() for p in self.parameters.values()])
        return [part.reshape(p.shape) for part, p in zip(parts, self.parameters.values(), strict=True)]

    def num_parameters(self) -> int:
        """The number of all values."""
        return sum(p.numel() for p in self.parameters.values())

    def to_bytes(self, prior_digest: str) -> bytes:
        """A safetensors file that carries the hash of the prior it belongs to."""
        from safetensors.torch import save

        metadata = {"prior_digest": prior_digest, "lora": json.dumps(asdict(self.config))}
        data: bytes = save({k: v.detach().cpu().contiguous() for k, v in self.parameters.items()}, metadata)
        return data

    @classmethod
    def from_bytes(cls, data: bytes, network: nn.Module, prior_digest: str, name: str = "adapter") -> Adapter:
        """Read what `to_bytes` wrote.

        Args:
            data: contents of an adapter file.
            network: the network that it is for.
            prior_digest: digest of that network's weights.
            name: what to call the adapter in messages.

        Raises:
            InputError: not an adapter file, made for another prior, or shapes that do not fit.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            metadata = header["__metadata__"]
            config = LoraConfig(**json.loads(metadata["lora"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{name}: not an adapter written by ddip-ray ({error})") from error
        if metadata["prior_digest"] != prior_digest:
            raise InputError(
                f"{name}: made for the prior {metadata['prior_digest'][:12]}…, not for {prior_digest[:12]}…",
                "Give the prior it was adapted from with --prior.",
            )
        expected = cls.create(network, config, seed=0)
        shapes = {k: tuple(v.shape) for k, v in tensors.items()}
        if shapes != {k: tuple(v.shape) for k, v in expected.parameters.items()}:
            raise InputError(f"{name}: its tensors do not fit the prior's network")
        device = next(network.parameters()).device
        return cls({k: tensors[k].to(device).requires_grad_() for k in expected.parameters}, config)
