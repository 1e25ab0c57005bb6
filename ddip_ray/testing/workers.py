"""Several workers in one process: threads that keep the communicator's protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddip_ray.solvers.core.slab import Slab

_TIMEOUT = 300.0  # seconds that a worker waits for the others; kernels compile meanwhile


class Threads:
    """A communicator between threads of one process: the real protocol, without processes."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.barrier = threading.Barrier(world_size, timeout=_TIMEOUT)
        self.board: list[Any] = [None] * world_size

    def share(self, rank: int, value: Any) -> list[Any]:
        """The values that all members give, in rank order."""
        self.board[rank] = value
        self.barrier.wait()
        every = list(self.board)
        self.barrier.wait()
        return every

    def member(self, rank: int) -> Member:
        """The communicator of one thread."""
        return Member(self, rank)


class Member:
    """The `Communicator` of one thread."""

    def __init__(self, group: Threads, rank: int) -> None:
        self.group, self.rank, self.world_size = group, rank, group.world_size

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum over the threads, in place; returns ``tensor``."""
        parts = self.group.share(self.rank, tensor.clone())
        return tensor.copy_(sum(parts[1:], start=parts[0]))

    def exchange_halo(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(last slice of the slab before, first slice of the slab after); None at the volume's ends."""
        ends = self.group.share(self.rank, (x[0].clone(), x[-1].clone()))
        before = ends[self.rank - 1][1] if self.rank > 0 else None
        after = ends[self.rank + 1][0] if self.rank < self.world_size - 1 else None
        return before, after


def on_workers(edges: list[int], work: Callable[[Slab, Member], Tensor]) -> Tensor:
    """The volume that workers make together, a thread for each slab.

    Args:
        edges: boundaries of the slabs, e.g. [0, 2, 6] for slices 0 and 1, and 2 to 5.
        work: makes the slices of a slab, (z, …).

    Returns:
        The slabs' tensors put together along z.
    """
    group = Threads(len(edges) - 1)
    results: list[Tensor | BaseException] = [torch.empty(0)] * group.world_size

    def run(rank: int) -> None:
        try:
            results[rank] = work(Slab(edges[rank], edges[rank + 1]), group.member(rank))
        except BaseException as error:
            results[rank] = error
            group.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(group.world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return torch.cat(results)  # type: ignore[arg-type]
