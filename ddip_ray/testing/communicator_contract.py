"""The tests that every communicator must pass: inherit `CommunicatorContract` and say how to run one.

class TestMyCommunicator(CommunicatorContract):
    world_size = 3

    def on_ranks(self, work: Work) -> list[Any]:
        return my_workers(self.world_size, work)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from ddip_ray.solvers.core.communicator import Communicator

Work = Callable[[Communicator], Any]  # a function of a module, or a `partial` of one: it can be pickled

_DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def own_slices(rank: int, dtype: torch.dtype, num_slices: int = 2) -> Tensor:
    """The slices (z, y, x) of one worker; no two workers have the same."""
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(num_slices, 3, 4, generator=generator, dtype=dtype)


def _place(communicator: Communicator) -> tuple[int, int]:
    return communicator.rank, communicator.world_size


def _reduced(communicator: Communicator, dtype: torch.dtype) -> tuple[Tensor, bool]:
    given = own_slices(communicator.rank, dtype)
    summed = communicator.all_reduce(given)
    return summed, summed is given


def _halo(
    communicator: Communicator, dtype: torch.dtype, num_slices: int, step: int
) -> tuple[Tensor | None, Tensor | None]:
    return communicator.exchange_halo(own_slices(communicator.rank, dtype, num_slices)[..., ::step])


def _spoiled_halo(communicator: Communicator) -> Tensor:
    x = own_slices(communicator.rank, torch.float32)
    for neighbour in communicator.exchange_halo(x):
        if neighbour is not None:
            neighbour.zero_()
    communicator.all_reduce(torch.zeros(1))  # all have spoiled theirs
    return x


def _in_turn(communicator: Communicator) -> list[float]:
    sums = []
    for i in range(4):
        sums.append(float(communicator.all_reduce(torch.tensor([float(i + communicator.rank)]))))
        before, _ = communicator.exchange_halo(torch.full((1, 1, 1), float(i)))
        sums.append(float(i) if before is None else float(before))
    return sums


class CommunicatorContract:
    """What solvers expect of a `Communicator`."""

    world_size = 1

    def on_ranks(self, work: Work) -> list[Any]:
        """Call ``work`` on every worker at the same time; the answers come in rank order."""
        raise NotImplementedError

    def test_ranks_count_from_zero_along_z(self) -> None:
        """Each worker knows its place."""
        assert self.on_ranks(_place) == [(rank, self.world_size) for rank in range(self.world_size)]

    @pytest.mark.parametrize("dtype", _DTYPES, ids=str)
    def test_all_reduce_sums_in_place(self, dtype: torch.dtype) -> None:
        """Every worker gets the sum, with the same bits, in the tensor that it gave."""
        answers = self.on_ranks(partial(_reduced, dtype=dtype))
        expected = torch.stack([own_slices(rank, dtype) for rank in range(self.world_size)]).sum(0)
        for summed, in_place in answers:
            assert in_place
            assert summed.dtype == dtype
            torch.testing.assert_close(summed, expected)
            assert torch.equal(summed, answers[0][0])

    @pytest.mark.parametrize("dtype", _DTYPES, ids=str)
    @pytest.mark.parametrize("num_slices", [1, 2])
    @pytest.mark.parametrize("step", [1, 2], ids=["contiguous", "strided"])
    def test_halo_is_the_neighbours_nearest_slice(
        self, dtype: torch.dtype, num_slices: int, step: int
    ) -> None:
        """Each worker gets the last slice of the slab before and the first of the slab after, exactly."""
        answers = self.on_ranks(partial(_halo, dtype=dtype, num_slices=num_slices, step=step))
        slabs = [own_slices(rank, dtype, num_slices)[..., ::step] for rank in range(self.world_size)]
        assert answers[0][0] is None
        assert answers[-1][1] is None
        for rank in range(1, self.world_size):
            assert torch.equal(answers[rank][0], slabs[rank - 1][-1])
            assert torch.equal(answers[rank - 1][1], slabs[rank][0])

    def test_halo_is_a_copy(self) -> None:
        """A worker may overwrite the slices it got without changing its neighbour's."""
        for rank, x in enumerate(self.on_ranks(_spoiled_halo)):
            assert torch.equal(x, own_slices(rank, torch.float32))

    def test_calls_do_not_mix(self) -> None:
        """Calls that follow each other belong together in the order in which they were made."""
        ranks = sum(range(self.world_size))
        expected = [value for i in range(4) for value in (float(self.world_size * i + ranks), float(i))]
        assert self.on_ranks(_in_turn) == [expected] * self.world_size
