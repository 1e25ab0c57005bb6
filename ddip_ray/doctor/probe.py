"""What runs on a node while it is checked: an actor of Ray's that answers questions.

What is asked are functions that the node imports itself, so it needs the same ddip-ray as the driver.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

_MAX_AT_ONCE = 64


def reach(address: tuple[str, int], timeout: float) -> str:
    """Why no TCP connection comes about within ``timeout`` seconds; empty when one does."""
    try:
        socket.create_connection(address, timeout).close()
    except OSError as error:
        return str(error)
    return ""


def reach_all(addresses: Mapping[str, tuple[str, int]], timeout: float) -> dict[str, str]:
    """The same of many, by name, at once: blocked ones take one timeout together."""
    with ThreadPoolExecutor(_MAX_AT_ONCE) as pool:
        answers = pool.map(lambda address: reach(address, timeout), addresses.values())
        return dict(zip(addresses, answers, strict=True))


@dataclass(frozen=True)
class Group:
    """``address`` is of the store of rank 0."""

    address: tuple[str, int]
    world_size: int
    backend: str
    timeout: float


class Probe:
    """One a node. It holds what must stay open from one question to the next."""

    def __init__(self) -> None:
        self.listener: socket.socket | None = None
        self.store: Any = None

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def listen(self) -> int:
        """A port that others can connect to. The system completes connections, nobody has to accept."""
        self.listener = socket.create_server(("0.0.0.0", 0), backlog=1024)
        port: int = self.listener.getsockname()[1]
        return port

    def host_group(self, timeout: float) -> int:
        from ddip_ray.engine.ray.process_group import host_store

        self.store, port = host_store(timeout)
        return port

    def sum_of_ranks(self, own_ip: str, rank: int, group: Group) -> tuple[float, str]:
        """An all-reduce in a group of all nodes, and the network interface it went through."""
        import torch
        import torch.distributed as dist

        from ddip_ray.engine.ray.process_group import ProcessGroup, talk_through

        talk_through(own_ip)
        if group.backend == "nccl":
            torch.cuda.set_device(0)
        joined = ProcessGroup(
            self.store if rank == 0 else None,
            group.address,
            rank=rank,
            world_size=group.world_size,
            backend=group.backend,
            timeout_seconds=group.timeout,
        )
        try:
            total = joined.all_reduce(torch.tensor([float(rank)]))
        finally:
            dist.destroy_process_group()
            self.store = None
        return float(total), os.environ.get(f"{group.backend.upper()}_SOCKET_IFNAME", "")
