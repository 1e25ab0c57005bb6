"""What can befall the workers of a run, each once, and a cluster of several nodes for it to happen on."""

from __future__ import annotations

import inspect
import os
import pkgutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import Event, Message
from ddip_ray.engine.planning.layout import Layout
from ddip_ray.engine.ray import executor as ray_executor
from ddip_ray.engine.ray.cluster import QUIET
from ddip_ray.engine.run import Resilience, reconstruct
from ddip_ray.engine.worker import Worker
from ddip_ray.io.stores.result import open_result

Do = Callable[[Worker], Any]
STEP = 3  # that is disturbed; two before it are in a snapshot


@dataclass
class SimulatedCluster:
    """Nodes of one core each, so that every worker has one of its own."""

    cluster: Any
    nodes: list[Any] = field(default_factory=list)

    def add_node(self) -> None:
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20))

    def lose_node_of(self, executor: ray_executor.RayExecutor, rank: int) -> None:
        """As when its power fails: its worker, which would live on for a while, dies with it."""
        import ray

        where, pid = ray.get(
            executor.actors[rank].__ray_call__.remote(
                lambda _: (ray.get_runtime_context().get_node_id(), os.getpid())
            )
        )
        lost = next(node for node in self.nodes if node.node_id == where)
        self.nodes.remove(lost)
        self.cluster.remove_node(lost, allow_graceful=False)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def simulated_cluster(num_nodes: int) -> Iterator[SimulatedCluster]:
    """A head without room for workers, and nodes with room for one each; connected to."""
    os.environ.update(QUIET)
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        simulated = SimulatedCluster(cluster)
        for _ in range(num_nodes):
            simulated.add_node()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield simulated
    finally:
        ray.shutdown()
        cluster.shutdown()


def is_step(do: Do) -> bool:
    return isinstance(do, partial) and do.keywords.get("i") == STEP


def is_snapshot(do: Do) -> bool:
    return (
        isinstance(do, partial)
        and do.func is Worker.snapshot
        and do.keywords["name"].startswith("step-000004")
    )


def is_write(do: Do) -> bool:
    return isinstance(do, partial) and "handle" in do.keywords


@dataclass(frozen=True)
class Fault:
    """``when`` workers are to do something ``strike`` does what it does, or returns what they do instead."""

    when: Callable[[Do], bool]
    strike: Callable[[SimulatedCluster, ray_executor.RayExecutor, Do], Do]
    seen: str  # what the user is told, as a regular expression
    elastic: bool = False
    methods: tuple[str, ...] = ("dds", "d3ip")  # that it can befall


def signalled(rank: int, number: signal.Signals) -> Callable[..., Do]:
    def strike(cluster: SimulatedCluster, executor: ray_executor.RayExecutor, do: Do) -> Do:
        import ray

        pid = ray.get(executor.actors[rank].__ray_call__.remote(lambda _: os.getpid()))
        os.kill(pid, number)
        return do

    return strike


def node_lost(rank: int, *, replaced: bool) -> Callable[..., Do]:
    def strike(cluster: SimulatedCluster, executor: ray_executor.RayExecutor, do: Do) -> Do:
        cluster.lose_node_of(executor, rank)
        if replaced:
            cluster.add_node()
        return do

    return strike


def killed_within(module: str, name: str, rank: int, caller: str | None = None) -> Callable[..., Do]:
    """A worker dies where it would first call a function of ours, from within ``caller`` if given."""

    def strike(cluster: SimulatedCluster, executor: ray_executor.RayExecutor, do: Do) -> Do:
        def doomed(worker: Worker) -> Any:
            import torch.distributed as dist

            if dist.get_rank() != rank:
                return do(worker)

            owner, _, attribute = f"{module}.{name}".rpartition(".")
            original = getattr(pkgutil.resolve_name(owner), attribute)

            def die(*args: Any, **kwargs: Any) -> Any:
                if caller is None or any(frame.function == caller for frame in inspect.stack()):
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            with mock.patch(f"{module}.{name}", die):
                return do(worker)

        return doomed

    return strike


LOST = r"worker {} was lost: .*; new workers take over \(1 of 3\)"
FAULTS = {
    "rank 0 killed": Fault(is_step, signalled(0, signal.SIGKILL), LOST.format(0)),
    "last rank killed": Fault(is_step, signalled(1, signal.SIGKILL), LOST.format(1)),
    "killed in an all-reduce": Fault(
        is_step,
        killed_within("ddip_ray.engine.ray.process_group", "ProcessGroup.all_reduce", 1),
        LOST.format(1),
    ),
    "killed in an all-reduce of CG": Fault(
        is_step,
        killed_within("ddip_ray.engine.ray.process_group", "ProcessGroup.all_reduce", 1, "cgls"),
        LOST.format(1),
        methods=("tv",),
    ),
    "killed while it writes a snapshot": Fault(
        is_snapshot, killed_within("ddip_ray.io.stores.snapshot_files", "_read", 0), LOST.format(0)
    ),
    "killed while it writes the result": Fault(
        is_write, killed_within("ddip_ray.io.stores.arrays", "write_shards", 1), LOST.format(1)
    ),
    "stopped (hangs)": Fault(
        is_step, signalled(1, signal.SIGSTOP), "worker 1 has not answered for 10 s; new"
    ),
    "node lost, another comes": Fault(is_step, node_lost(1, replaced=True), LOST.format(1)),
    "node lost, elastic": Fault(
        is_step,
        node_lost(0, replaced=False),
        "room for 1 of 2 workers: going on with those",
        elastic=True,
    ),
}


@dataclass
class Disturbed:
    """A run that a fault befell: its volume, what its user was told, and when it was as far again."""

    volume: np.ndarray
    messages: list[str]
    seconds: float


def disturbed(
    store: Path, output: Path, config: RunConfig, fault: Fault, cluster: SimulatedCluster
) -> Disturbed:
    """Reconstruct on two workers, with a snapshot every other step, through ``fault``."""
    each, struck = ray_executor.RayExecutor.each, list[float]()
    messages, recovered = list[str](), list[float]()

    def striking(self: ray_executor.RayExecutor, do: Do) -> Any:
        if not struck and fault.when(do):
            struck.append(time.monotonic())
            do = fault.strike(cluster, self, do)
        found = each(self, do)
        if struck and fault.when(do):
            recovered.append(time.monotonic())
        return found

    def watch(event: Event) -> None:
        if isinstance(event, Message):
            messages.append(event.text)

    patience = {"PING_EVERY": 1.0, "PING_TIMEOUT": 10.0, "ENOUGH_TIMEOUT": 5.0}
    with (
        mock.patch.multiple(ray_executor, **patience),
        mock.patch.object(ray_executor.RayExecutor, "each", striking),
    ):
        reconstruct(
            str(store),
            str(output),
            config,
            layout=Layout(num_workers=2, elastic=fault.elastic),
            resilience=Resilience("2"),
            on_event=watch,
        )
    assert struck
    result = open_result(str(output))
    return Disturbed(result.read(0, result.shape[0]), messages, recovered[0] - struck[0])
