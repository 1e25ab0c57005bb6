"""The nodes of a Ray cluster, and questions to them; every wait has an end."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddip_ray.doctor.findings import Finding, Silence, Status, Trouble, as_trouble
from ddip_ray.doctor.probe import Probe

# Ray would hide the GPUs from an actor that asks for none.
_SEE_ALL_GPUS = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}

Request = tuple[str, tuple[Any, ...]]  # name of a method of `Probe`, and its arguments


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        name: name of the host, with a part of the node's id where several nodes share a host.
        node_id: Ray's id of the node.
        ip: IP address by which Ray knows the node.
        num_gpus: GPUs that Ray hands out there.
        num_cpus: cores that Ray hands out there.
        socket_path: socket of the node's object store.
    """

    name: str
    node_id: str
    ip: str
    num_gpus: int
    num_cpus: int
    socket_path: Path


def alive_nodes() -> list[Node]:
    """The nodes that Ray takes to be alive."""
    import ray

    found = [node for node in ray.nodes() if node["Alive"]]
    hosts = Counter(node["NodeManagerHostname"] for node in found)
    return [
        Node(
            node["NodeManagerHostname"]
            + (f"-{node['NodeID'][:6]}" if hosts[node["NodeManagerHostname"]] > 1 else ""),
            node["NodeID"],
            node["NodeManagerAddress"],
            int(node["Resources"].get("GPU", 0)),
            int(node["Resources"].get("CPU", 0)),
            Path(node["ObjectStoreSocketName"]),
        )
        for node in found
    ]


def check_nodes(nodes: list[Node]) -> list[Finding]:
    """Check that some nodes have cores, and report nodes that have died."""
    import ray

    cores = sum(node.num_cpus for node in nodes)
    words = f"{len(nodes)} alive, with {cores} cores and {sum(node.num_gpus for node in nodes)} GPUs for Ray"
    status, fix = (Status.PASS, "") if cores else (Status.FAIL, "Start nodes with --num-cpus 1 or more.")
    findings = [Finding("nodes", "all", status, words, fix)]
    for node in ray.nodes():
        if not node["Alive"]:
            where = f"{node['NodeManagerHostname']}-{node['NodeID'][:6]}"
            why = str(node.get("DeathReasonMessage", "")).strip().partition("\n")[0]
            words = f"left the cluster ({why})" if why else "left the cluster"
            fix = "If it is missed, see Ray's log of it, raylet.out, and start it again."
            findings.append(Finding("nodes", where, Status.WARN, words, fix))
    return findings


def answers_of(refs: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The answers by node, with a `Trouble` for each that failed or is late.

    Args:
        refs: pending results, by node.
        timeout: seconds to wait for all of them.
    """
    import ray

    done, _ = ray.wait(list(refs.values()), num_returns=len(refs), timeout=timeout) if refs else ([], [])
    answers = dict[str, Any]()
    for name, ref in refs.items():
        try:
            answers[name] = ray.get(ref) if ref in done else Silence(f"no answer for {timeout:.0f} s")
        except ray.exceptions.RayTaskError as error:
            answers[name] = as_trouble(error.cause)
        except ray.exceptions.RayError as error:
            answers[name] = Silence(_last_words(error))
    return answers


def _last_words(error: Exception) -> str:
    """An error in one line; for an actor that died with a traceback, its last line."""
    if "Traceback" in str(error):
        return str(error).strip().rpartition("\n")[2][:300]
    return as_trouble(error).words


def ask_without_actor(
    nodes: list[Node], function: Callable[..., Any], *arguments: Any, timeout: float
) -> dict[str, Any]:
    """Ask nodes by a Ray task, to which nodes with another version of Ray answer, too.

    Args:
        nodes: the nodes to ask.
        function: called on each node; it must come with Python, because the node may lack this package.
        *arguments: its arguments.
        timeout: seconds to wait for all answers.

    Returns:
        The answers by node.
    """
    import ray

    remote = ray.remote(function)
    refs = {node.name: remote.options(**_pinned(node), max_retries=0).remote(*arguments) for node in nodes}
    return answers_of(refs, timeout)


def _pinned(node: Node) -> dict[str, Any]:
    """Ray's options that pin a task or actor to a node, even if that is busy or has no cores for Ray."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False)}


class Probes:
    """A `Probe` on each node. A node that fails to answer once is not asked again.

    Args:
        nodes: the nodes to ask.
        patience: seconds to wait for each answer.
    """

    def __init__(self, nodes: list[Node], patience: float) -> None:
        import ray

        self.patience = patience
        self.nodes = {node.name: node for node in nodes}
        self._actors = {
            node.name: ray.remote(Probe)
            .options(**_pinned(node), runtime_env=_SEE_ALL_GPUS if node.num_gpus else None)
            .remote()
            for node in nodes
        }

    def request(self, requests: Mapping[str, Request], timeout: float | None = None) -> dict[str, Any]:
        """Ask each node its own question.

        Args:
            requests: the questions by node; nodes that have not answered before are left out.
            timeout: seconds to wait; None: ``patience``.

        Returns:
            The answers by node, with a `Trouble` for each that failed.
        """
        refs = {
            name: getattr(self._actors[name], method).remote(*arguments)
            for name, (method, arguments) in requests.items()
            if name in self.nodes
        }
        answers = answers_of(refs, self.patience if timeout is None else timeout)
        for name, answer in answers.items():
            if isinstance(answer, Silence):
                del self.nodes[name]
        return answers

    def ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Ask all nodes to call ``function``; the answers by node."""
        return self.request({name: ("ask", (function, *arguments)) for name in self.nodes})

    def clock_offset(self, name: str, num_rounds: int = 3) -> tuple[float, float] | Trouble:
        """The offset of a node's clock to ours, and the round trip of the question, in seconds.

        The fastest of ``num_rounds`` questions counts; both ways are assumed to take the same time.
        """
        best = (0.0, float("inf"))
        for _ in range(num_rounds):
            sent = time.time()
            answer = self.request({name: ("ask", (time.time,))})[name]
            back = time.time()
            if isinstance(answer, Trouble):
                return answer
            best = min(best, (answer - (sent + back) / 2, back - sent), key=lambda pair: pair[1])
        return best

    def close(self) -> None:
        """End the probes."""
        import ray

        for actor in self._actors.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)


@contextlib.contextmanager
def probes_on(nodes: list[Node], patience: float) -> Iterator[Probes]:
    """Probes on all nodes, which end with the context."""
    probes = Probes(nodes, patience)
    try:
        yield probes
    finally:
        probes.close()
