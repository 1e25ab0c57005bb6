"""Checks whether all nodes have the same software as the driver.

Ray lets no node with another version of Ray or Python join. But the installation may change under a running
node: its next workers then have the new Ray, which may work, fail in odd ways, or wait forever.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from ddip_ray import __version__
from ddip_ray.doctor.findings import Finding, Silence, Status, Trouble, separated
from ddip_ray.doctor.nodes import Node, Probes, ask_without_actor

# Looked up by a function of Python itself, which nodes without ddip-ray can call, too.
_ESSENTIAL = {"Ray": "ray:__version__", "Python": "sys:version", "ddip-ray": "ddip_ray:__version__"}
_PACKAGES = ("torch", "zarr", "tensorstore")
_EXTRAS = {"finufft": "nufft", "sigpy": "mri", "obstore": "s3", "grpc": "client"}
_SAME = "Install the same there as here, and start that node's Ray again."


def essential_versions() -> dict[str, str]:
    """This process's versions of what must be the same on all nodes."""
    import ray

    return {"Ray": ray.__version__, "Python": platform.python_version(), "ddip-ray": __version__}


def package_versions() -> dict[str, str]:
    """This process's versions of other packages that matter."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def extras() -> list[str]:
    """The optional packages that are installed."""
    return [name for name in _EXTRAS if importlib.util.find_spec(name)]


def judge_essentials(where: str, here: Mapping[str, str], there: Mapping[str, str]) -> Finding:
    """Judge a node's versions against ours; of Python's version the first two numbers count."""
    differing = [
        f"{name} {there[name]} instead of {here[name]}"
        for name in here
        if _significant(name, there[name]) != _significant(name, here[name])
    ]
    if differing:
        return Finding("versions", where, Status.FAIL, ", ".join(differing), _SAME)
    return Finding("versions", where, Status.PASS, ", ".join(f"{name} {there[name]}" for name in there))


def _significant(name: str, text: str) -> str:
    return ".".join(text.split(".")[:2]) if name == "Python" else text


def judge_packages(where: str, here: Mapping[str, str], there: Mapping[str, str]) -> Finding:
    """Judge packages that may differ, although results may then differ a little."""
    missing = [name for name in there if there[name] == "missing"]
    if missing:
        return Finding("packages", where, Status.FAIL, f"without {', '.join(missing)}", _SAME)
    differing = [f"{n} {there[n]} instead of {here[n]}" for n in there if there[n] != here[n]]
    if differing:
        return Finding("packages", where, Status.WARN, ", ".join(differing), _SAME)
    return Finding("packages", where, Status.PASS, ", ".join(f"{n} {there[n]}" for n in there))


def judge_extras(where: str, there: list[str]) -> Finding:
    """Report which optional packages a node has; none is required."""
    words = [
        f"{name} {'yes' if name in there else f'no (ddip-ray[{extra}])'}" for name, extra in _EXTRAS.items()
    ]
    return Finding("extras", where, Status.PASS, ", ".join(words))


def check_essentials(nodes: list[Node], patience: float) -> tuple[list[Node], list[Finding]]:
    """Check Ray, Python and ddip-ray on every node.

    Args:
        nodes: the nodes to ask.
        patience: seconds to wait for each answer.

    Returns:
        The nodes that can answer further questions, and the findings.
    """
    found: dict[str, dict[str, str]] = {node.name: {} for node in nodes}
    findings, left = list[Finding](), list(nodes)
    for name, where in _ESSENTIAL.items():
        answers = ask_without_actor(left, pkgutil.resolve_name, where, timeout=patience)
        for node, answer in answers.items():
            if isinstance(answer, Trouble):
                findings.append(_without_version(node, name, answer))
            else:
                found[node][name] = answer.split()[0]
        left = [node for node in left if name in found[node.name]]
    here = essential_versions()
    findings += [judge_essentials(node.name, here, found[node.name]) for node in left]
    failed = {finding.where for finding in findings if finding.status == Status.FAIL}
    return [node for node in nodes if node.name not in failed], findings


def _without_version(where: str, name: str, trouble: Trouble) -> Finding:
    if isinstance(trouble, Silence):
        words = f"no worker of Ray starts there ({trouble.words})"
        fix = f"Is the machine up, and is its Ray {essential_versions()['Ray']}? Start that node's Ray again."
        return Finding("versions", where, Status.FAIL, words, fix)
    words = f"{name} cannot be imported there ({trouble.words})"
    return Finding("versions", where, Status.FAIL, words, _SAME)


def check_packages(probes: Probes) -> list[Finding]:
    """Check the packages, required and optional, on every node."""
    here = package_versions()
    there, findings = separated("packages", probes.ask(package_versions))
    findings += [judge_packages(where, here, answer) for where, answer in there.items()]
    optional, silent = separated("extras", probes.ask(extras))
    return findings + silent + [judge_extras(where, answer) for where, answer in optional.items()]


def judge_refusal(address: str, words: str) -> Finding:
    """The finding when Ray refuses this process; ``words`` are Ray's own message."""
    here = essential_versions()
    if "Version mismatch" in words:
        theirs = dict(line.split(": ", 1) for line in words.splitlines()[1:3] if ": " in line)
        there = {name.strip(): value.strip() for name, value in theirs.items()}
        differing = ", ".join(f"{n} {there[n]}, here {here[n]}" for n in there if there[n] != here.get(n))
        fix = "Install the cluster's versions here, or these on all of its nodes."
        return Finding("versions", address, Status.FAIL, f"the cluster has {differing}", fix)
    fix = (
        f"Has the cluster Ray {here['Ray']}, as this process has, and RAY_AUTH_TOKEN, if it has one? "
        "Another Ray version, a Ray that is stuck, and another program at that port look alike."
    )
    return Finding("versions", address, Status.FAIL, f"Ray cannot connect: {words}", fix)
