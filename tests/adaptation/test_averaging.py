"""The mean of adapters is the mean of what they change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ddip_ray.adaptation.averaging import mean_with, volumes_of
from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.errors import InputError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.Conv2d(6, 4, 1))


def adapter(seed: int, rank: int, prior: str = "p") -> tuple[bytes, dict[str, torch.Tensor]]:
    """A file, and the changes of weights that it stands for; rank 1 in truth."""
    own = Adapter.create(network(), LoraConfig(rank), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in own.parameters.items():
            if name.endswith("up"):
                value[:, :1] = torch.randn(len(value), 1, generator=generator)
    return own.to_bytes(prior), changes(own)


def changes(own: Adapter) -> dict[str, torch.Tensor]:
    names = {name.rpartition(".")[0] for name in own.parameters}
    return {n: (own.parameters[f"{n}.lora_up"] @ own.parameters[f"{n}.lora_down"]).detach() for n in names}


def test_the_mean_of_three_is_that_of_their_changes() -> None:
    mean, all_changes = None, []
    for seed in range(3):
        own, change = adapter(seed, rank=3)
        mean = mean_with(mean, own, f"v{seed}")
        all_changes.append(change)
    assert mean is not None
    assert volumes_of(mean) == ("v0", "v1", "v2")
    found = changes(Adapter.from_bytes(mean, network(), "p"))
    for name, value in found.items():
        torch.testing.assert_close(value, sum(c[name] for c in all_changes) / 3, atol=1e-6, rtol=1e-5)


def test_a_mean_of_higher_rank_is_cut_to_the_nearest() -> None:
    a, change_a = adapter(0, rank=1)
    b, change_b = adapter(1, rank=1)
    found = changes(Adapter.from_bytes(mean_with(mean_with(None, a, "a"), b, "b"), network(), "p"))
    for name, value in found.items():
        exact = (change_a[name] + change_b[name]) / 2
        singular = torch.linalg.svdvals(exact)
        assert torch.linalg.matrix_rank(value) == 1
        torch.testing.assert_close(torch.linalg.norm(value - exact), singular[1:].square().sum().sqrt())


@pytest.mark.parametrize("strengths", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_a_mean_with_what_was_not_adapted_can_still_learn(strengths: tuple[float, float]) -> None:
    """A factor pair that is zero on both sides has no gradient, ever."""
    mean = None
    for seed, strength in enumerate(strengths):
        own = Adapter.from_bytes(adapter(seed, rank=2)[0], network(), "p").at_strength(strength)
        mean = mean_with(mean, own.to_bytes("p"), f"v{seed}")
    assert mean is not None
    found = Adapter.from_bytes(mean, network(), "p")
    assert found.changes_weights() == any(strengths)
    for name, up in found.parameters.items():
        if name.endswith("up"):
            down = found.parameters[name.replace("up", "down")]
            # Of rank 1 in truth: one pair that may have learned, and one that can.
            ups, downs = up.detach().norm(dim=0), down.detach().norm(dim=1)
            assert float(downs[0]) > 0.01
            torch.testing.assert_close((ups[1], downs[1]), (torch.tensor(0.0), torch.tensor(1.0)))


def test_adapters_of_other_priors_or_ranks_are_refused() -> None:
    mean = mean_with(None, adapter(0, rank=2)[0], "a")
    with pytest.raises(InputError, match="the adapter of b cannot be averaged with it: other prior_digest"):
        mean_with(mean, adapter(0, rank=2, prior="q")[0], "b")
    with pytest.raises(InputError, match="other lora"):
        mean_with(mean, adapter(0, rank=1)[0], "b")
