"""What one worker does, without knowing where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.peak_memory import full_memory_explained, peak_bytes, reset_peak
from ddip_ray.engine.snapshots.store import HOW_TO_GO_ON, Marker, Part, Snapshots
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.result import ResultHandle
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import StepReport
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Record, SliceRows, State

ADAPTER_NAME = "adapter.safetensors"
_MEASUREMENTS = "measurements"  # their digests, in a snapshot


@dataclass(frozen=True)
class WorkerTask:
    """All a worker is told; small, and pickles."""

    store: str
    slab: Slab
    config: RunConfig
    device: str
    num_threads: int


@dataclass(frozen=True)
class MethodFacts:
    """What the driver needs to know of the method it steps."""

    num_steps: int
    nfe: int
    adapt_nfe: int
    prior_digest: str | None


@dataclass(frozen=True)
class WriteReport:
    """What a worker, or several in their order, left behind.

    An adapter or none, the largest peak of memory, and the digests of the measurements of their slices.
    """

    has_adapter: bool
    peak_bytes: int
    digests: bytes

    @classmethod
    def of_all(cls, reports: Sequence[WriteReport]) -> WriteReport:
        return cls(
            any(r.has_adapter for r in reports),
            max(r.peak_bytes for r in reports),
            b"".join(r.digests for r in reports),
        )


class Worker:
    """Reads its slab, steps its method in time with the others, writes its slab."""

    def __init__(self, task: WorkerTask, communicator: Communicator) -> None:
        from ddip_ray.problems.load import load_problem
        from ddip_ray.solvers.build import build_method

        if task.device == "cpu":
            torch.set_num_threads(task.num_threads)
        reset_peak()
        acquisition = open_acquisition(task.store)
        self.task, self.intensity = task, acquisition.metadata.intensity
        self.which = f"slices {task.slab.start} to {task.slab.stop - 1}"
        # Now: after a night of steps what was measured may be gone.
        self.digests = _digests(acquisition, task.slab)
        with full_memory_explained(self.which):
            self.problem = load_problem(acquisition, task.slab, task.device, task.config.start_from)
            self.method = build_method(task.config, self.problem, communicator)

    def facts(self) -> MethodFacts:
        method = self.method
        return MethodFacts(method.num_steps, method.nfe, method.adapt_nfe, method.prior_digest)

    def step(self, i: int) -> StepReport:
        with full_memory_explained(self.which):
            return self.method.step(i)

    def snapshot(self, snapshots: Snapshots, name: str) -> Part:
        """Write the state of the method and, for `load`, of which measurements it is."""
        record = Record()
        self.method.keep(State(record))
        record.slices[_MEASUREMENTS] = SliceRows(self.task.slab, self.digests)
        try:
            return snapshots.write_part(name, self.task.slab, record)
        except OSError as error:
            raise InputError(f"{snapshots.folder}: cannot be written ({error})") from error

    def load(self, snapshots: Snapshots, marker: Marker) -> None:
        """Read and check what `restore` needs, before any worker changes.

        Raises:
            DamagedSnapshot: it cannot be read any more.
            InputError: it is of other measurements.
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
        """Go on from what was loaded."""
        self.method.keep(State(self.loaded, restoring=True, device=self.task.device))
        del self.loaded

    def write(self, handle: ResultHandle) -> WriteReport:
        """Write the slab in the image's own units, and the adapter if this is the first worker."""
        x = self.problem.with_phase(self.method.result()).cpu().numpy()
        handle.write_slab(self.task.slab.start, self.intensity.offset + self.intensity.scale * x)
        adapter, digest = self.method.adapter, self.method.prior_digest
        has_adapter = False
        if self.task.slab.start == 0 and adapter is not None and digest is not None:
            has_adapter = True
            handle.store_file(ADAPTER_NAME, adapter.to_bytes(digest))
        return WriteReport(has_adapter, peak_bytes(self.task.device), self.digests.numpy().tobytes())


def _digests(acquisition: Acquisition, slab: Slab) -> Tensor:
    """(z, 32) uint8: what tells what the store has of the slices from anything else."""
    each = b"".join(acquisition.digests(slab.start, slab.stop))
    return torch.frombuffer(bytearray(each), dtype=torch.uint8).reshape(len(slab), 32)
