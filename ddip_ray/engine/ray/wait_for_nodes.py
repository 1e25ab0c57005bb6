"""Wait until a cluster that is being started has all of its nodes, and they are alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ddip_ray.engine.ray.cluster import connected
from ddip_ray.errors import InputError

_POLL = 0.5  # seconds
_TYPE = "accelerator_type:"  # of Ray's names of resources


@dataclass(frozen=True)
class Node:
    """Of a cluster, with what it gives to it."""

    address: str
    num_cores: int
    num_gpus: int
    gpu_type: str = ""

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Node:
        """From what Ray says of it."""
        own = facts["Resources"]
        types = [name.removeprefix(_TYPE) for name in own if name.startswith(_TYPE)]
        cores, gpus = int(own.get("CPU", 0)), int(own.get("GPU", 0))
        return cls(facts["NodeManagerAddress"], cores, gpus, ", ".join(sorted(types)))

    def __str__(self) -> str:
        gpus = f", {self.num_gpus} GPUs {self.gpu_type}".rstrip() if self.num_gpus else ""
        return f"{self.address}: {self.num_cores} cores{gpus}"


def gather(
    num_nodes: int, gpus_per_node: int, seconds: float, is_starting: Callable[[], bool] = lambda: True
) -> list[Node]:
    """All nodes of the cluster at ``RAY_ADDRESS``, once there are ``num_nodes``.

    Raises:
        InputError: not so many after ``seconds``, or not ``is_starting`` any more; or they are not alike.
    """
    deadline, nodes, why = time.monotonic() + seconds, list[Node](), ""
    while time.monotonic() < deadline:
        try:
            nodes = _nodes()
        except InputError as error:  # of a head that has not begun
            why = f" ({error.message})"
        if len(nodes) >= num_nodes:
            require_alike(nodes, gpus_per_node)
            return nodes
        if not is_starting():
            raise InputError(
                "the cluster ended before all of its nodes were there", "See the messages above."
            )
        time.sleep(_POLL)
    found = "; ".join(map(str, nodes)) or "none"
    raise InputError(f"{len(nodes)} of {num_nodes} nodes after {seconds:.0f} s: {found}{why}")


def require_alike(nodes: list[Node], gpus_per_node: int) -> None:
    """Slabs are equal, so the slowest GPU would hold up all others; one that is missing would stay idle."""
    if any(node.num_gpus != gpus_per_node for node in nodes):
        raise InputError(
            f"expected {gpus_per_node} GPUs on each node, found {'; '.join(map(str, nodes))}",
            "Ask for as many on each.",
        )
    if len({node.gpu_type for node in nodes}) > 1:
        raise InputError(
            f"the GPUs are not alike: {'; '.join(map(str, nodes))}",
            "Ask for one type (gpu_type in the site file), or for nodes of one kind (constraint).",
        )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _nodes() -> list[Node]:
    import ray

    with connected(1):
        found = [Node.of(facts) for facts in ray.nodes() if facts["Alive"]]
    return sorted(found, key=lambda node: node.address)
