"""How many workers a job has, and how much memory their pods ask for."""

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
SHARED_MEMORY = _GIB  # /dev/shm counts as the container's memory
_NODE = 2 * _GIB  # Ray's processes on a node
_GPU_PROCESS = 4 * _GIB  # of a worker whose network is on its GPU: libraries, pinned buffers


@dataclass(frozen=True)
class Layout:
    """Pods of one Ray worker node each, and the GPUs or CPU workers in each."""

    nodes: int
    per_node: int
    on_gpus: bool

    @classmethod
    def asked_for(
        cls, site: KubernetesSite, nodes: int | None, gpus_per_node: int | None, cpus_per_node: int | None
    ) -> Layout:
        """From the flags; without ``nodes`` one or, of an elastic site, all it allows."""
        if gpus_per_node is None and cpus_per_node is None:
            raise InputError(
                "neither --gpus-per-node nor --cpus-per-node", "Say what each node is to give to the job."
            )
        if gpus_per_node is not None and cpus_per_node is not None:
            raise InputError(
                "--gpus-per-node and --cpus-per-node are one or the other", "One worker drives one GPU."
            )
        scheduling = site.scheduling
        most = scheduling.max_nodes if isinstance(scheduling, Elastic) else None
        wanted = nodes or most or 1
        if isinstance(scheduling, Elastic) and not scheduling.min_nodes <= wanted <= scheduling.max_nodes:
            raise InputError(
                f"--nodes {wanted}, the site allows {scheduling.min_nodes} to {scheduling.max_nodes}",
                "See scheduling.min_nodes and scheduling.max_nodes in the site file.",
            )
        return cls(wanted, cpus_per_node or gpus_per_node or 1, cpus_per_node is None)

    @property
    def num_workers(self) -> int:
        return self.nodes * self.per_node

    def placed(self, command: LaunchedCommand) -> LaunchedCommand:
        """The command with the workers named: the driver must not count a cluster that is still growing."""
        placement = ["--gpus" if self.on_gpus else "--workers", str(self.num_workers)]
        if not self.on_gpus and self.num_workers == 1:  # would compute in the driver, in the head's small pod
            if command.name != "reconstruct":
                raise InputError(
                    f"{command.name} on a single CPU worker needs no cluster",
                    "Use --cpus-per-node 2 or more.",
                )
            placement += ["--executor", "ray"]
        return LaunchedCommand((*command.words, *placement))


def node_memory(layout: Layout, worker_bytes: int) -> str:
    """As Kubernetes writes it, of a pod with workers of ``worker_bytes`` each."""
    total = layout.per_node * worker_bytes + _NODE + SHARED_MEMORY
    return f"{math.ceil(total / 2**20)}Mi"


def default_bytes(site: KubernetesSite, layout: Layout) -> int:
    """Host memory of a worker, as the site has it."""
    size = site.workers
    return memory_bytes(size.memory_per_gpu if layout.on_gpus else size.memory_per_cpu)


def host_bytes(
    store: str, config: Callable[[], RunConfig], layout: Layout, say: Callable[[str], None]
) -> int | None:
    """Host memory of a worker for one volume; None, and why, where the store cannot be opened from here.

    Raises:
        InputError: more workers than the volume has shards.
    """
    from ddip_ray.engine.planning.layout import plan_slabs
    from ddip_ray.engine.planning.memory import image_bytes, worker_bytes
    from ddip_ray.io.stores.acquisition import open_acquisition

    try:
        acquisition, settings = open_acquisition(store), config()
    except InputError as error:
        say(f"memory is the site's default: {error.message}")
        return None
    slabs = plan_slabs(acquisition.num_slices, acquisition.shard_slices, layout.num_workers)
    most, device = max(len(slab) for slab in slabs), "cuda" if layout.on_gpus else "cpu"
    try:
        needed = worker_bytes(acquisition, settings, most, device)
    except InputError as error:  # a prior that is only there
        say(f"memory is the site's default: {error.message}")
        return None
    of_what = "its GPU" if layout.on_gpus else "memory"
    say(f"{layout.num_workers} workers of up to {most} slices, each {format_bytes(needed)} of {of_what}")
    if not layout.on_gpus:
        return needed
    # A slab passes through the host when it is read, and again when it is written.
    return _GPU_PROCESS + 2 * most * (image_bytes(acquisition) + acquisition.slice_bytes)
