"""A worker: what it does, wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.peak_memory import full_memory_explained, peak_bytes, reset_peak
from ddip_ray.engine.snapshots.store import HOW_TO_GO_ON, Marker, SlabFiles, Snapshots
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.result import ResultHandle
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Record, SliceRows, State

ADAPTER_NAME = "adapter.safetensors"
_MEASUREMENTS = "measurements"  # name of their digests in a snapshot


@dataclass(frozen=True)
class WorkerTask:
    """Everything a worker is told; small, and can be pickled.

    Attributes:
        store: path of the acquisition.
        slab: the slices that the worker reconstructs.
        config: the method and its settings.
        device: "cuda" or "cpu".
        num_threads: CPU threads that the worker may use.
    """

    store: str
    slab: Slab
    config: RunConfig
    device: str
    num_threads: int


@dataclass(frozen=True)
class MethodFacts:
    """The facts about a method that the driver needs.

    Attributes:
        num_steps: number of steps the method makes at most.
        nfe: network calls for each slice, without those for adaptation.
        adapt_nfe: network calls for adaptation and validation, summed over the volume.
        prior_digest: digest of the prior; None for methods without one.
    """

    num_steps: int
    nfe: int
    adapt_nfe: int
    prior_digest: str | None


@dataclass(frozen=True)
class WriteReport:
    """A report of what one worker, or all workers together, wrote into the result.

    Attributes:
        has_adapter: whether an adapter was written.
        peak_bytes: the largest peak of a worker's memory.
        digests: digests of the measurements, in slice order.
    """

    has_adapter: bool
    peak_bytes: int
    digests: bytes

    @classmethod
    def combined(cls, reports: Sequence[WriteReport]) -> WriteReport:
        """One report for all workers, whose own are given in the order of their slabs."""
        return cls(
            any(r.has_adapter for r in reports),
            max(r.peak_bytes for r in reports),
            b"".join(r.digests for r in reports),
        )


class Worker:
    """A worker reads its slab, makes the method's steps together with the others, and writes its slab."""

    def __init__(self, task: WorkerTask, communicator: Communicator) -> None:
        from ddip_ray.problems.load import load_problem
        from ddip_ray.solvers.build import build_method

        if task.device == "cpu":
            torch.set_num_threads(task.num_threads)
        reset_peak()
        acquisition = open_acquisition(task.store)
        self.task, self.intensity = task, acquisition.metadata.intensity
        self.which = f"slices {task.slab.start} to {task.slab.stop - 1}"
        # Read now: after a night of steps the store may be gone.
        self.digests = _digests(acquisition, task.slab)
        with full_memory_explained(self.which):
            self.problem = load_problem(acquisition, task.slab, task.device, task.config.start_from)
            self.method = build_method(task.config, self.problem, communicator)

    def facts(self) -> MethodFacts:
        """The facts about the method as they are now; adaptation may stop early, and calls be fewer."""
        method = self.method
        return MethodFacts(method.num_steps, method.nfe, method.adapt_nfe, method.prior_digest)

    def step(self, i: int) -> StepReport:
        """Make step ``i`` of the method, at the same time as all other workers.

        Raises:
            Unavailable: the GPU's memory is full.
        """
        with full_memory_explained(self.which):
            return self.method.step(i)

    def snapshot(self, snapshots: Snapshots, name: str) -> SlabFiles:
        """Write the state of the method, with the digests of the measurements for `load`.

        Raises:
            InputError: it cannot be written.
        """
        record = Record()
        self.method.keep(State(record))
        record.slices[_MEASUREMENTS] = SliceRows(self.task.slab, self.digests)
        try:
            return snapshots.write_part(name, self.task.slab, record)
        except OSError as error:
            raise InputError(f"{snapshots.folder}: cannot be written ({error})") from error

    def load(self, snapshots: Snapshots, marker: Marker) -> None:
        """Read and check what `restore` needs, so that either all workers are restored or none.

        Raises:
            DamagedSnapshot: the snapshot cannot be read.
            InputError: the snapshot was made from other measurements.
        """
        record = snapshots.read(marker, self.task.slab)
        digests = record.slices.pop(_MEASUREMENTS).of(self.task.slab)
        if not torch.equal(digests, self.digests):
            slices = self.task.slab.start + torch.nonzero((digests != self.digests).any(1))[:, 0]
            raise InputError(
                f"{snapshots.folder}: made of other measurements of {self.task.store}, "
                f"{len(slices)} slices, the first {int(slices[0])}",
                HOW_TO_GO_ON,
            )
        self.loaded = record

    def restore(self) -> None:
        """Give the method the state that `load` has read."""
        self.method.keep(State(self.loaded, restoring=True, device=self.task.device))
        del self.loaded

    def write(self, handle: ResultHandle) -> WriteReport:
        """Write the slab in the image's own units; the first worker also writes the adapter."""
        x = self.problem.with_phase(self.method.result()).cpu().numpy()
        handle.write_slab(self.task.slab.start, self.intensity.offset + self.intensity.scale * x)
        adapter, digest = self.method.adapter, self.method.prior_digest
        has_adapter = False
        if self.task.slab.start == 0 and adapter is not None and digest is not None:
            has_adapter = True
            handle.store_file(ADAPTER_NAME, adapter.to_bytes(digest))
        return WriteReport(has_adapter, peak_bytes(self.task.device), self.digests.numpy().tobytes())


def _digests(acquisition: Acquisition, slab: Slab) -> Tensor:
    """SHA-256 digests of the slices' measurements as stored, (z, 32) uint8."""
    each = b"".join(acquisition.digests(slab.start, slab.stop))
    return torch.frombuffer(bytearray(each), dtype=torch.uint8).reshape(len(slab), 32)
