"""The communicator between processes: torch.distributed, with gloo on CPUs and NCCL on GPUs."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

_UP, _DOWN = 1, 2  # message tags of a halo's two directions


def host_store(timeout_seconds: float) -> tuple[TCPStore, int]:
    """Open the store at which processes meet.

    Args:
        timeout_seconds: how long an operation of the store may take.

    Returns:
        The store and its port. The system chooses a free port, so that no other program can take it first.
    """
    store = TCPStore(
        "0.0.0.0", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout_seconds)
    )
    return store, store.port


_SIOCGIFADDR = 0x8915  # Linux's request for the address of an interface


def talk_through(own_ip: str) -> None:
    """Let gloo use the network interface with the address ``own_ip``, unless the user has named another.

    By itself gloo takes the address that the host's name resolves to, which often only the host itself can
    reach (127.0.1.1 in /etc/hosts).
    """
    name = _interface_of(own_ip)
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _interface_of(own_ip: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                found = fcntl.ioctl(any_socket, _SIOCGIFADDR, request)[20:24]
            except OSError:  # the interface has no address, or this is not Linux
                continue
            if socket.inet_ntoa(found) == own_ip:
                return name
    return None


class ProcessGroup:
    """The communicator of Ray workers, by torch.distributed.

    Args:
        store: the store from `host_store`, in the process that opened it; None in the others.
        address: IP address and port of that store.
        rank: index of this worker, in the order of the slabs along z.
        world_size: number of workers.
        backend: "gloo" or "nccl".
        timeout_seconds: how long a worker waits for another before it fails.
    """

    def __init__(
        self,
        store: TCPStore | None,
        address: tuple[str, int],
        *,
        rank: int,
        world_size: int,
        backend: str,
        timeout_seconds: float,
    ) -> None:
        timeout = timedelta(seconds=timeout_seconds)
        host, port = address
        self._store = store or TCPStore(host, port, is_master=False, timeout=timeout)
        dist.init_process_group(backend, store=self._store, rank=rank, world_size=world_size, timeout=timeout)
        self.rank, self.world_size, self._backend = rank, world_size, backend

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum over the workers, in place; returns ``tensor``."""
        staged = self._stage(tensor)
        dist.all_reduce(staged)
        if staged is not tensor:
            tensor.copy_(staged)
        return tensor

    def exchange_halo(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The last slice of the slab before and the first of the slab after; None at the volume's ends."""
        first, last = self._stage(x[0]).contiguous(), self._stage(x[-1]).contiguous()
        before = torch.empty_like(last) if self.rank > 0 else None
        after = torch.empty_like(first) if self.rank < self.world_size - 1 else None
        operations = []
        if after is not None:
            operations.append(dist.P2POp(dist.isend, last, self.rank + 1, tag=_UP))
            operations.append(dist.P2POp(dist.irecv, after, self.rank + 1, tag=_DOWN))
        if before is not None:
            operations.append(dist.P2POp(dist.irecv, before, self.rank - 1, tag=_UP))
            operations.append(dist.P2POp(dist.isend, first, self.rank - 1, tag=_DOWN))
        if operations:
            for work in dist.batch_isend_irecv(operations):
                work.wait()
        return (
            None if before is None else before.to(x.device),
            None if after is None else after.to(x.device),
        )

    def _stage(self, tensor: Tensor) -> Tensor:
        """``tensor`` where the backend can send it: gloo sends host memory only, NCCL device memory only."""
        device = "cpu" if self._backend == "gloo" else torch.device("cuda", torch.cuda.current_device())
        return tensor.to(device)
