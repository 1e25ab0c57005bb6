"""The nodes of a Ray cluster, and questions to them. No wait is without end."""

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

Request = tuple[str, tuple[Any, ...]]  # a method of `Probe` and its arguments


@dataclass(frozen=True)
class Node:
    """``name`` is the host's, with a part of the node's id where several nodes share a host."""

    name: str
    node_id: str
    ip: str
    num_gpus: int
    num_cpus: int
    socket_path: Path


def alive_nodes() -> list[Node]:
    """As Ray sees them."""
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
    """That there are some with cores, and which have died."""
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


def gathered(refs: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The results, by node; a `Trouble` for each that failed or is late."""
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
    """Of an actor that died with a traceback, its last line."""
    if "Traceback" in str(error):
        return str(error).strip().rpartition("\n")[2][:300]
    return as_trouble(error).words


def ask_without_actor(
    nodes: list[Node], function: Callable[..., Any], *arguments: Any, timeout: float
) -> dict[str, Any]:
    """As a task: even nodes of another Ray version answer if ``function`` is Python's own."""
    import ray

    remote = ray.remote(function)
    refs = {node.name: remote.options(**_pinned(node), max_retries=0).remote(*arguments) for node in nodes}
    return gathered(refs, timeout)


def _pinned(node: Node) -> dict[str, Any]:
    """To that node and no other; it may be busy, or have no cores for Ray."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False)}


class Probes:
    """A `Probe` on each node. Those that do not answer once are not asked again."""

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
        """Answers by node, of those that are left."""
        refs = {
            name: getattr(self._actors[name], method).remote(*arguments)
            for name, (method, arguments) in requests.items()
            if name in self.nodes
        }
        answers = gathered(refs, self.patience if timeout is None else timeout)
        for name, answer in answers.items():
            if isinstance(answer, Silence):
                del self.nodes[name]
        return answers

    def ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """The same question to all."""
        return self.request({name: ("ask", (function, *arguments)) for name in self.nodes})

    def clock_offset(self, name: str, num_rounds: int = 3) -> tuple[float, float] | Trouble:
        """Of the node's clock to ours, and the round trip, of which one half each way is assumed."""
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
        import ray

        for actor in self._actors.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)


@contextlib.contextmanager
def probes_on(nodes: list[Node], patience: float) -> Iterator[Probes]:
    probes = Probes(nodes, patience)
    try:
        yield probes
    finally:
        probes.close()
