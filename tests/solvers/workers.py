"""Several workers in one process: threads that keep the communicator's protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddip_ray.solvers.core.slab import Slab


class Threads:
    """A communicator between threads of one process: the real protocol, without processes."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.barrier = threading.Barrier(world_size, timeout=300)  # kernels compile meanwhile
        self.board: list[Any] = [None] * world_size

    def share(self, rank: int, value: Any) -> list[Any]:
        self.board[rank] = value
        self.barrier.wait()
        every = list(self.board)
        self.barrier.wait()
        return every

    def member(self, rank: int) -> Member:
        return Member(self, rank)


class Member:
    def __init__(self, group: Threads, rank: int) -> None:
        self.group, self.rank, self.world_size = group, rank, group.world_size

    def all_reduce(self, tensor: Tensor) -> Tensor:
        parts = self.group.share(self.rank, tensor.clone())
        return tensor.copy_(sum(parts[1:], start=parts[0]))

    def exchange_halo(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        ends = self.group.share(self.rank, (x[0].clone(), x[-1].clone()))
        before = ends[self.rank - 1][1] if self.rank > 0 else None
        after = ends[self.rank + 1][0] if self.rank < self.world_size - 1 else None
        return before, after


def on_workers(edges: list[int], work: Callable[[Slab, Member], Tensor]) -> Tensor:
    """Run ``work`` on a thread for each slab between ``edges``; the slabs' results put together."""
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
