"""The size of a job: its workers, and the memory that their pods request."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddip_ray.errors import InputError
from ddip_ray.launch.command import LaunchedCommand
from ddip_ray.launch.kubernetes.site import Elastic, KubernetesSite, memory_bytes
from ddip_ray.units import format_bytes

if TYPE_CHECKING:
    from ddip_ray.config.settings import RunConfig

_GIB = 2**30
SHARED_MEMORY = _GIB  # /dev/shm, which counts as the container's memory
_NODE = 2 * _GIB  # memory of Ray's processes on a node
_GPU_PROCESS = 4 * _GIB  # host memory of a worker on a GPU: libraries, pinned buffers


@dataclass(frozen=True)
class JobSize:
    """The nodes of a job and the workers on each.

    Attributes:
        nodes: number of pods, each a node of the Ray cluster.
        per_node: number of GPUs or, without GPUs, of CPU workers in each pod.
        on_gpus: whether workers compute on GPUs.
    """

    nodes: int
    per_node: int
    on_gpus: bool

    @classmethod
    def asked_for(
        cls, site: KubernetesSite, nodes: int | None, gpus_per_node: int | None, cpus_per_node: int | None
    ) -> JobSize:
        """The size that a user asks for.

        Args:
            site: the cluster.
            nodes: number of nodes; None: one or, for an elastic site, all it allows.
            gpus_per_node: GPUs of each node; None: none.
            cpus_per_node: CPU workers on each node; None: none.

        Raises:
            InputError: neither GPUs nor CPUs are given, or both, or the site allows no such number of nodes.
        """
        if gpus_per_node is None and cpus_per_node is None:
            raise InputError(
                "neither `gpus_per_node` nor `cpus_per_node`", "Say what each node gives to the job."
            )
        if gpus_per_node is not None and cpus_per_node is not None:
            raise InputError(
                "`gpus_per_node` and `cpus_per_node`: give one or the other", "One worker drives one GPU."
            )
        scheduling = site.scheduling
        most = scheduling.max_nodes if isinstance(scheduling, Elastic) else None
        wanted = nodes or most or 1
        if isinstance(scheduling, Elastic) and not scheduling.min_nodes <= wanted <= scheduling.max_nodes:
            raise InputError(
                f"`nodes={wanted}`, the site allows {scheduling.min_nodes} to {scheduling.max_nodes}",
                "See scheduling.min_nodes and scheduling.max_nodes in the site file.",
            )
        return cls(wanted, cpus_per_node or gpus_per_node or 1, cpus_per_node is None)

    @property
    def num_workers(self) -> int:
        """Number of workers of the job."""
        return self.nodes * self.per_node

    def placed(self, command: LaunchedCommand) -> LaunchedCommand:
        """The command with the number of its workers.

        The driver must not count the workers of a cluster that is still growing.

        Raises:
            InputError: a cohort on a single CPU worker, which needs no cluster.
        """
        placement = ["--gpus" if self.on_gpus else "--workers", str(self.num_workers)]
        if (
            not self.on_gpus and self.num_workers == 1
        ):  # would compute in the driver, in the small pod of the head
            if command.name != "reconstruct":
                raise InputError(
                    f"{command.name} on a single CPU worker needs no cluster",
                    "Use `cpus_per_node=2` or more.",
                )
            placement += ["--executor", "ray"]
        return LaunchedCommand((*command.words, *placement))


def node_memory(size: JobSize, worker_bytes: int) -> str:
    """The memory of a pod in Kubernetes' notation; each of its workers needs ``worker_bytes``."""
    total = size.per_node * worker_bytes + _NODE + SHARED_MEMORY
    return f"{math.ceil(total / 2**20)}Mi"


def default_bytes(site: KubernetesSite, size: JobSize) -> int:
    """Bytes of host memory of a worker, from the site file."""
    worker = site.workers
    return memory_bytes(worker.memory_per_gpu if size.on_gpus else worker.memory_per_cpu)


def worker_host_bytes(
    store: str, config: Callable[[], RunConfig], size: JobSize, say: Callable[[str], None]
) -> int | None:
    """Bytes of host memory that a worker needs for one volume.

    Args:
        store: path of the acquisition.
        config: called for the settings, which may lie with the acquisition.
        size: the size of the job.
        say: called with a line for the user.

    Returns:
        The bytes; None where the store cannot be opened from here, which ``say`` explains.

    Raises:
        InputError: there are more workers than shards in the volume.
    """
    from ddip_ray.engine.planning.layout import plan_slabs
    from ddip_ray.engine.planning.memory import image_bytes, worker_bytes
    from ddip_ray.io.stores.acquisition import open_acquisition

    try:
        acquisition, settings = open_acquisition(store), config()
    except InputError as error:
        say(f"memory is the site's default: {error.message}")
        return None
    slabs = plan_slabs(acquisition.num_slices, acquisition.shard_slices, size.num_workers)
    most, device = max(len(slab) for slab in slabs), "cuda" if size.on_gpus else "cpu"
    try:
        needed = worker_bytes(acquisition, settings, most, device)
    except InputError as error:  # a prior that only the cluster has
        say(f"memory is the site's default: {error.message}")
        return None
    of_what = "its GPU" if size.on_gpus else "memory"
    say(f"{size.num_workers} workers of up to {most} slices, each {format_bytes(needed)} of {of_what}")
    if not size.on_gpus:
        return needed
    # A slab passes through the host when it is read, and again when it is written.
    return _GPU_PROCESS + 2 * most * (image_bytes(acquisition) + acquisition.slice_bytes)
