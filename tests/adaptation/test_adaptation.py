"""The low-rank adapter and one optimiser step of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ddip_ray.adaptation.lora import Adapter, LoraConfig, adapted_weights
from ddip_ray.adaptation.update import adapt_step, draw_slices
from ddip_ray.errors import InputError
from ddip_ray.prior.network import NetworkConfig, build_network

TINY = NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(TINY).eval().requires_grad_(False)


def randomised(network: nn.Module, seed: int = 1) -> Adapter:
    adapter = Adapter.create(network, LoraConfig(rank=2), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapter


def test_targets_are_convolutions_and_attention_only(network: nn.Module) -> None:
    names = adapted_weights(network, LoraConfig())
    assert "conv_in.weight" in names
    assert any(".attentions." in name and ".to_q." in name for name in names)
    assert not any("norm" in name or name.endswith("bias") or "time_emb" in name for name in names)
    without = adapted_weights(network, LoraConfig(attention=False))
    assert not any(".attentions." in name for name in without)


def test_a_new_adapter_changes_nothing_and_never_touches_the_network(network: nn.Module) -> None:
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([5, 5])
    before = {k: v.clone() for k, v in network.state_dict().items()}
    plain = network(x, t).sample
    fresh = Adapter.create(network, LoraConfig(), 0).bind(network)(x, t)
    torch.testing.assert_close(fresh, plain, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(randomised(network).bind(network)(x, t), plain)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize(("init_std", "expected"), [(None, 1 / 3), (0.25, 0.25)])
def test_down_factors_start_as_large_as_asked(
    network: nn.Module, init_std: float | None, expected: float
) -> None:
    """By default their products with unit inputs are of unit size: nine pixels here."""
    adapter = Adapter.create(network, LoraConfig(rank=64, init_std=init_std), seed=0)
    std = float(adapter.parameters["conv_in.weight.lora_down"].detach().std())
    assert std == pytest.approx(expected, rel=0.2)


def test_merging_equals_a_separate_low_rank_convolution(network: nn.Module) -> None:
    adapter = randomised(network)
    convolution = dict(network.named_modules())["conv_in"]
    assert isinstance(convolution, nn.Conv2d)
    down, up = (adapter.parameters[f"conv_in.weight.lora_{k}"] for k in ("down", "up"))
    x = torch.randn(1, 1, 9, 9)
    low = nn.functional.conv2d(x, down.reshape(-1, *convolution.weight.shape[1:]), padding=1)
    separate = convolution(x) + nn.functional.conv2d(low, up[:, :, None, None])
    merged = nn.functional.conv2d(
        x, convolution.weight + (up @ down).reshape(convolution.weight.shape), convolution.bias, padding=1
    )
    torch.testing.assert_close(merged, separate, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.4])
def test_at_another_strength_it_can_go_on_learning(network: nn.Module, strength: float) -> None:
    adapter, x, t = randomised(network), torch.randn(1, 1, 16, 16), torch.tensor([5])
    weaker = adapter.at_strength(strength)
    expected = adapter.bind(network, strength)(x, t)
    torch.testing.assert_close(weaker.bind(network)(x, t), expected, rtol=1e-4, atol=1e-5)
    loss = weaker.bind(network)(x, t).square().sum()
    assert any(g.any() for g in torch.autograd.grad(loss, list(weaker.parameters.values())))


def test_a_gradient_of_zero_is_no_step(network: nn.Module) -> None:
    adapter = randomised(network)
    before, optimizer = adapter.flat(), torch.optim.Adam(adapter.parameters.values(), lr=0.1)
    adapt_step(
        adapter, optimizer, [0], lambda z: 0 * sum(p.sum() for p in adapter.parameters.values()), lambda x: x
    )
    assert torch.equal(adapter.flat(), before)


def test_saved_adapter_belongs_to_its_prior(network: nn.Module) -> None:
    adapter = randomised(network)
    data = adapter.to_bytes("a" * 64)
    again = Adapter.from_bytes(data, network, "a" * 64)
    assert again.config == adapter.config
    assert all(torch.equal(again.parameters[k], v) for k, v in adapter.parameters.items())
    with pytest.raises(
        InputError, match=r"mine\.safetensors: made for the prior aaaaaaaaaaaa…, not for bbbb"
    ):
        Adapter.from_bytes(data, network, "b" * 64, name="mine.safetensors")
    with pytest.raises(InputError, match="not an adapter written by ddip-ray"):
        Adapter.from_bytes(b"nonsense", network, "a" * 64)
    other = build_network(NetworkConfig(channels=(8, 24), norm_num_groups=4, attention_head_dim=8))
    with pytest.raises(InputError, match="do not fit"):
        Adapter.from_bytes(data, other, "a" * 64)


def test_draws_are_one_from_each_part_of_the_volume() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [draw_slices(20, 4, generator) for _ in range(200)]
    for part in range(4):
        assert {draw[part] for draw in draws} == set(range(5 * part, 5 * part + 5))
    assert draw_slices(3, 8, generator) == [0, 1, 2]


def test_gradient_is_the_mean_over_slices_wherever_they_are(network: nn.Module) -> None:
    """Two workers that hold different slices take the step that one worker takes alone, to the bit."""
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(5))

    def loss_of(adapter: Adapter, z: int) -> Tensor:
        out: Tensor = adapter.bind(network)(x[z : z + 1], torch.tensor([7])).square().mean()
        return out

    def run(holds: list[set[int]]) -> list[list[Tensor]]:
        adapters = [randomised(network) for _ in holds]
        optimizers = [torch.optim.Adam(a.parameters.values(), lr=1e-2) for a in adapters]
        parts: list[Tensor] = []
        for adapter, optimizer, mine in zip(adapters, optimizers, holds, strict=True):
            collected = lambda g: parts.append(g.clone()) or g  # type: ignore[func-returns-value]  # noqa: E731
            adapt_step(
                adapter,
                optimizer,
                [0, 2, 3],
                lambda z, a=adapter, m=mine: loss_of(a, z) if z in m else None,
                collected,
            )
        total = sum(parts[1:], start=parts[0])
        finals = []
        for _ in holds:
            adapter = randomised(network)
            optimizer = torch.optim.Adam(adapter.parameters.values(), lr=1e-2)
            adapt_step(adapter, optimizer, [0, 2, 3], lambda z: None, lambda g: g.copy_(total))
            finals.append([p.detach() for p in adapter.parameters.values()])
        return finals

    (alone,) = run([{0, 1, 2, 3}])
    first, second = run([{0, 1}, {2, 3}])
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(alone, first, second, strict=True))
    start = list(randomised(network).parameters.values())
    assert any(not torch.equal(a, b) for a, b in zip(alone, start, strict=True))
