"""The checkup: is this machine, or a Ray cluster, ready for runs?"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddip_ray.doctor.connect import check_connection
from ddip_ray.doctor.findings import Finding, Status, as_trouble
from ddip_ray.doctor.machine import (
    check_clocks,
    check_machines,
    check_priors,
    gpu_facts,
    host_facts,
    judge_gpus,
    judge_host,
)
from ddip_ray.doctor.network import CONNECT_TIMEOUT, check_network
from ddip_ray.doctor.nodes import Probes, alive_nodes, check_nodes, probes_on
from ddip_ray.doctor.storage import check_storage
from ddip_ray.doctor.versions import (
    check_essentials,
    check_packages,
    essential_versions,
    judge_essentials,
)
from ddip_ray.engine.ray.cluster import cluster_address, connected
from ddip_ray.io import paths

PATIENCE = 60.0  # seconds to wait for each answer of a node


def check_cluster(
    storage: Sequence[str] = (),
    num_gpus: int | None = None,
    *,
    patience: float = PATIENCE,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> list[Finding]:
    """Run every check on the Ray cluster at ``RAY_ADDRESS``.

    If none is set, start Ray locally and check this machine.

    Args:
        storage: folders, or parts of buckets, that all nodes must be able to write.
        num_gpus: number of GPUs that a run will use; None: any number will do.
        patience: seconds to wait for each answer of a node.
        connect_timeout: seconds to wait for each TCP connection between two nodes.

    Returns:
        The findings, in the order of the checks.

    Raises:
        InputError: nobody listens at the address, or an entry of ``storage`` is not a path.
    """
    for path in storage:
        paths.absolute(path)
    address = cluster_address()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silent())
        if address is not None and (refused := check_connection(address, patience)):
            return refused
        try:
            stack.enter_context(connected(1))
        except Exception as error:  # Ray raises errors of any type when it cannot start here
            if address is not None:
                raise
            return [_no_start(error), *_without_ray()]
        return _check_nodes(storage, num_gpus, patience, connect_timeout)


def _check_nodes(
    storage: Sequence[str], num_gpus: int | None, patience: float, connect_timeout: float
) -> list[Finding]:
    """All checks, on the cluster that is connected."""
    nodes = alive_nodes()
    findings = check_nodes(nodes)
    able, versions = check_essentials(nodes, patience)
    findings += versions
    with probes_on(able, patience) as probes:
        findings += _check_with(probes, storage, num_gpus, connect_timeout)
    return findings


def _check_with(
    probes: Probes, storage: Sequence[str], num_gpus: int | None, connect_timeout: float
) -> list[Finding]:
    """All checks that ask the nodes; those that a dead disk can block come last."""
    findings = check_packages(probes)
    findings += check_machines(probes, num_gpus)
    findings += check_priors(probes)
    findings += check_clocks(probes)
    if probes.nodes:
        broken = {finding.where for finding in findings if finding.check == "GPUs" and finding.fix}
        have_gpus = all(node.num_gpus and name not in broken for name, node in probes.nodes.items())
        findings += check_network(probes, have_gpus, connect_timeout)
    for path in storage:
        findings += check_storage(probes, path)
    return findings


def _no_start(error: Exception) -> Finding:
    fix = "See the logs in /tmp/ray/session_latest/logs. Is the disk full, or another Ray in the way?"
    if "AF_UNIX" in str(error):
        fix = "Set RAY_TMPDIR to a folder with a shorter path."
    return Finding("Ray", "here", Status.FAIL, f"does not start: {as_trouble(error).words}", fix)


def _without_ray() -> list[Finding]:
    """The findings that this process can make alone, where Ray does not start."""
    here, gpus = essential_versions(), gpu_facts()
    socket_path = Path(tempfile.gettempdir()) / "ray" / "session" / "sockets" / "plasma_store"
    return [
        judge_essentials("here", here, here),
        judge_gpus("here", len(gpus.gpus), gpus),
        judge_host("here", host_facts(socket_path), socket_path),
    ]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress what Ray prints about failing workers; the findings say it."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
