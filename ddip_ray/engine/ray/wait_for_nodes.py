"""Waiting until a cluster that is being started has all of its nodes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ddip_ray.engine.ray.cluster import connected
from ddip_ray.errors import InputError

_POLL = 0.5  # seconds
_TYPE = "accelerator_type:"  # prefix of Ray's resource that names a type of GPU


@dataclass(frozen=True)
class ClusterNode:
    """A node of a cluster and what it gives to Ray.

    Attributes:
        address: IP address.
        num_cores: CPU cores.
        num_gpus: GPUs.
        gpu_type: Ray's name for the type of the GPUs.
    """

    address: str
    num_cores: int
    num_gpus: int
    gpu_type: str = ""

    @classmethod
    def from_ray(cls, facts: dict[str, Any]) -> ClusterNode:
        """The node that Ray describes in an entry of `ray.nodes`."""
        own = facts["Resources"]
        types = [name.removeprefix(_TYPE) for name in own if name.startswith(_TYPE)]
        cores, gpus = int(own.get("CPU", 0)), int(own.get("GPU", 0))
        return cls(facts["NodeManagerAddress"], cores, gpus, ", ".join(sorted(types)))

    def __str__(self) -> str:
        gpus = f", {self.num_gpus} GPUs {self.gpu_type}".rstrip() if self.num_gpus else ""
        return f"{self.address}: {self.num_cores} cores{gpus}"


def wait_for_nodes(
    num_nodes: int, gpus_per_node: int, seconds: float, is_starting: Callable[[], bool] = lambda: True
) -> list[ClusterNode]:
    """Wait until the cluster at ``RAY_ADDRESS`` has ``num_nodes`` nodes, and require that they are alike.

    Args:
        num_nodes: number of nodes to wait for.
        gpus_per_node: number of GPUs that each node must have.
        seconds: how long to wait.
        is_starting: asked again and again; False ends the wait, because no more nodes will come.

    Returns:
        All nodes.

    Raises:
        InputError: there are fewer nodes after ``seconds``, no more will come, or they are not alike.
    """
    deadline, nodes, why = time.monotonic() + seconds, list[ClusterNode](), ""
    while time.monotonic() < deadline:
        try:
            nodes = _nodes()
        except InputError as error:  # the head node has not started yet
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


def require_alike(nodes: list[ClusterNode], gpus_per_node: int) -> None:
    """Require that all nodes have ``gpus_per_node`` GPUs of one type.

    Slabs are equal, so the slowest GPU would hold up all others.

    Raises:
        InputError: the nodes differ.
    """
    if any(node.num_gpus != gpus_per_node for node in nodes):
        raise InputError(
            f"expected {gpus_per_node} GPUs on each node, found {'; '.join(map(str, nodes))}",
            "Ask for the same number on each.",
        )
    if len({node.gpu_type for node in nodes}) > 1:
        raise InputError(
            f"the GPUs are not alike: {'; '.join(map(str, nodes))}",
            "Ask for one type (gpu_type in the site file), or for nodes of one kind (constraint).",
        )


def is_alive(pid: int) -> bool:
    """Whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _nodes() -> list[ClusterNode]:
    import ray

    with connected(1):
        found = [ClusterNode.from_ray(facts) for facts in ray.nodes() if facts["Alive"]]
    return sorted(found, key=lambda node: node.address)
