"""The Ray actor that answers questions on a node while it is checked.

The node imports the functions that it is asked to call, so it needs the same ddip-ray as the driver.
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
    """The reason why no TCP connection to ``address`` opens within ``timeout`` seconds; empty if one does."""
    try:
        socket.create_connection(address, timeout).close()
    except OSError as error:
        return str(error)
    return ""


def reach_all(addresses: Mapping[str, tuple[str, int]], timeout: float) -> dict[str, str]:
    """`reach` for many addresses at once, by name; blocked ones share one timeout."""
    with ThreadPoolExecutor(_MAX_AT_ONCE) as pool:
        answers = pool.map(lambda address: reach(address, timeout), addresses.values())
        return dict(zip(addresses, answers, strict=True))


@dataclass(frozen=True)
class Group:
    """A process group to join; ``address`` is where rank 0 keeps the store at which all meet."""

    address: tuple[str, int]
    world_size: int
    backend: str
    timeout: float


class Probe:
    """An actor on one node, which keeps sockets open from one question to the next."""

    def __init__(self) -> None:
        self.listener: socket.socket | None = None
        self.store: Any = None

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function`` on this node."""
        return function(*arguments)

    def listen(self) -> int:
        """Open a port that others can connect to; the system completes connections without an `accept`."""
        self.listener = socket.create_server(("0.0.0.0", 0), backlog=1024)
        port: int = self.listener.getsockname()[1]
        return port

    def host_group(self, timeout: float) -> int:
        """Open the store at which a process group meets; returns its port."""
        from ddip_ray.engine.ray.process_group import host_store

        self.store, port = host_store(timeout)
        return port

    def sum_of_ranks(self, own_ip: str, rank: int, group: Group) -> tuple[float, str]:
        """Join a process group of all nodes and sum their ranks.

        Args:
            own_ip: IP address of this node.
            rank: rank of this node.
            group: the group to join.

        Returns:
            The sum, and the name of the network interface if one was chosen.
        """
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
