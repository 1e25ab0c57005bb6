"""Checks whether nodes can talk to each other as their workers will."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from ddip_ray.doctor.findings import Finding, Status, Trouble, separated
from ddip_ray.doctor.nodes import Node, Probes
from ddip_ray.doctor.probe import Group, reach_all

CONNECT_TIMEOUT = 4.0  # seconds
GROUP_TIMEOUT = 20.0
_OPEN = "Workers use any free port: let all TCP ports through between the nodes (firewall)."


def check_network(
    probes: Probes, all_have_gpus: bool, connect_timeout: float = CONNECT_TIMEOUT
) -> list[Finding]:
    """Check every ordered pair of nodes and then, if no pair is blocked, process groups across all nodes.

    Args:
        probes: the nodes to ask.
        all_have_gpus: whether to check NCCL, too.
        connect_timeout: seconds to wait for each connection.
    """
    findings = judge_addresses(list(probes.nodes.values()))
    ports, silent = separated("network", probes.request({name: ("listen", ()) for name in probes.nodes}))
    addresses = {name: (probes.nodes[name].ip, port) for name, port in ports.items()}
    others = {
        name: {other: address for other, address in addresses.items() if other != name} for name in addresses
    }
    answers = probes.request(
        {name: ("ask", (reach_all, those, connect_timeout)) for name, those in others.items()},
        # Time for all rounds of blocked connections that a node makes in the worst case.
        connect_timeout * (2 + len(addresses) // 64) + 20.0,
    )
    reached, more = separated("network", answers)
    pairs = judge_pairs(reached, addresses)
    findings += silent + more + pairs
    if any(finding.status == Status.FAIL for finding in findings):
        return findings
    backends = ["gloo", "nccl"] if all_have_gpus else ["gloo"]
    return findings + [_check_group(probes, backend) for backend in backends]


def judge_addresses(nodes: Sequence[Node]) -> list[Finding]:
    """Warn of loopback addresses where there are several nodes."""
    if len(nodes) < 2:
        return []
    fix = "Start that node's Ray with --node-ip-address and an address that the others reach."
    return [
        Finding("network", node.name, Status.WARN, f"Ray knows it as {node.ip}, which only it reaches", fix)
        for node in nodes
        if ipaddress.ip_address(node.ip).is_loopback
    ]


def judge_pairs(
    reached: Mapping[str, Mapping[str, str]], addresses: Mapping[str, tuple[str, int]]
) -> list[Finding]:
    """Judge the connections between nodes.

    Args:
        reached: ``reached[a][b]`` says why ``a`` cannot connect to ``b``; empty if it can.
        addresses: where each node listened.
    """
    blocked = [
        Finding("network", f"{start} to {end}", Status.FAIL, f"{addresses[end][0]}: {why}", _OPEN)
        for start, ends in reached.items()
        for end, why in ends.items()
        if why
    ]
    if blocked or len(reached) < 2:
        return blocked
    return [Finding("network", "all", Status.PASS, f"each of {len(reached)} nodes reaches each other on TCP")]


def _check_group(probes: Probes, backend: str) -> Finding:
    """Check an all-reduce across all nodes, which is what workers do in every step."""
    names = list(probes.nodes)
    first = probes.nodes[names[0]]
    port = probes.request({first.name: ("host_group", (GROUP_TIMEOUT,))})[first.name]
    if isinstance(port, Trouble):
        return judge_group(backend, {first.name: port})
    group = Group((first.ip, port), len(names), backend, GROUP_TIMEOUT)
    requests = {
        name: ("sum_of_ranks", (probes.nodes[name].ip, rank, group)) for rank, name in enumerate(names)
    }
    return judge_group(backend, probes.request(requests, 3 * GROUP_TIMEOUT))


def judge_group(backend: str, answers: Mapping[str, tuple[float, str] | Trouble]) -> Finding:
    """Judge a process group.

    Args:
        backend: "gloo" or "nccl".
        answers: each node's sum of all ranks, and the name of its network interface if one was chosen.
    """
    good, troubles = separated(backend, answers)
    interfaces = sorted({name for _, name in good.values() if name})
    through = f" through {', '.join(interfaces)}" if interfaces else ""
    expected = len(answers) * (len(answers) - 1) / 2
    wrong = [where for where, (total, _) in good.items() if total != expected]
    if not troubles and not wrong:
        words = f"{len(answers)} processes{through}, all-reduce is right"
        return Finding(backend, "all", Status.PASS, words)
    words = "; ".join(f"{found.where}: {found.found}" for found in troubles[:3]) or f"wrong sums on {wrong}"
    fix = (
        f"Name the network that all nodes share, {backend.upper()}_SOCKET_IFNAME=NAME (see "
        "`ip -brief address`), in the environment of ray start on each."
    )
    return Finding(backend, "all", Status.FAIL, f"no group{through}: {words}", fix)
