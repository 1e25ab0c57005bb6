"""Slices through a network whose device is too small for as many as were asked for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ddip_ray.solvers.core.micro_batches import in_micro_batches


@pytest.mark.parametrize(
    ("room", "sizes"), [(8, [8, 8]), (3, [8, 4, 2, 2, 2, 2, 2]), (1, [8, 4, 2] + [1] * 9)]
)
def test_the_batch_is_halved_until_it_fits(room: int, sizes: list[int]) -> None:
    x, seen = torch.arange(9.0).reshape(9, 1, 1).expand(9, 2, 3), list[int]()

    def of(slices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(slices))
        if len(slices) > room:
            raise torch.OutOfMemoryError
        return x[slices] + 1, -x[slices]

    prior = SimpleNamespace(micro_batch=8)
    first, second = in_micro_batches(prior, x, of)  # type: ignore[arg-type]
    torch.testing.assert_close(first, x + 1)
    torch.testing.assert_close(second, -x)
    assert seen == sizes
    assert prior.micro_batch == sizes[-1]


def test_a_slice_that_does_not_fit() -> None:
    def of(slices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        in_micro_batches(SimpleNamespace(micro_batch=2), torch.zeros(2, 2, 2), of)  # type: ignore[arg-type]
