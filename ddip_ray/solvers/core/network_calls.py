"""The network as methods call it: in micro-batches, and every call counted for its slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddip_ray.prior.denoiser import Network, Prior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.micro_batches import SliceFunction, in_micro_batches
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Recorder

Networks = Network | Iterable[Network]  # one for all slices of a slab, or one for each


@dataclass(frozen=True)
class NetworkCalls:
    """Numbers of network calls, where a call is that of one slice.

    Attributes:
        calls_per_slice: calls to reconstruct each slice, those for its rescan copies included.
        adaptation_calls: calls to adapt the network or to decide on settings, over the whole volume.
    """

    calls_per_slice: int = 0
    adaptation_calls: int = 0


class CallCounter:
    """The number of network calls for each slice of a slab.

    Counts go with their slices, so that a run that is resumed on other workers goes on counting.
    """

    def __init__(self, slab: Slab) -> None:
        self.slab = slab
        # None: unknown, because the snapshot that a run resumed from is older than the counts.
        self.per_slice: Tensor | None = torch.zeros(len(slab), dtype=torch.int64)

    def add(self, rows: Sequence[int] | None = None) -> None:
        """Count one call for each of these rows of the slab; None: for every row."""
        if self.per_slice is not None:
            self.per_slice[slice(None) if rows is None else list(rows)] += 1

    def save_or_restore(self, recorder: Recorder, name: str) -> None:
        """Hand the counts to ``recorder``, or take them from there."""
        counts = recorder.slices(f"calls.{name}", None if recorder.restoring else self.per_slice, self.slab)
        self.per_slice = None if counts is None else counts.cpu()


class CountedDenoiser:
    """A prior for the slices of one slab, which counts its calls in ``calls``."""

    def __init__(self, prior: Prior, slab: Slab) -> None:
        self.prior, self.calls = prior, CallCounter(slab)

    def denoise_slab(self, x_t: Tensor, t: int, network: Network | None = None) -> tuple[Tensor, Tensor]:
        """(x0_hat, eps_hat) of all slices, both (z, y, x), without a graph."""
        with torch.no_grad():
            return self.map_slices(x_t, lambda rows: self.prior.denoise(x_t[rows], t, network))

    def denoise_rows(
        self, x_t: Tensor, rows: Sequence[int], t: int, network: Network
    ) -> tuple[Tensor, Tensor]:
        """(x0_hat, eps_hat) of some rows of ``x_t`` in one call, differentiable in the network's weights."""
        self.calls.add(rows)
        return self.prior.denoise(x_t[list(rows)], t, network)

    def map_slices(self, x: Tensor, function: SliceFunction) -> tuple[Tensor, Tensor]:
        """`in_micro_batches` of a ``function`` that calls the network once for each slice of ``x``."""
        self.calls.add()
        return in_micro_batches(self.prior, x, function)


def count_calls(
    problem: SlabProblem,
    communicator: Communicator,
    reconstruction: Iterable[CallCounter],
    adaptation: Iterable[CallCounter] = (),
) -> NetworkCalls | None:
    """The calls that all workers have made; every worker asks at the same time.

    Args:
        problem: this worker's part of the volume.
        communicator: the other workers.
        reconstruction: counters of this worker's calls to reconstruct.
        adaptation: counters of its calls to adapt or to decide.

    Returns:
        None where some counts are unknown (`CallCounter`).
    """
    counters = [list(reconstruction), list(adaptation)]
    if any(counter.per_slice is None for group in counters for counter in group):
        return None
    own = [sum(int(c.per_slice.sum()) for c in group if c.per_slice is not None) for group in counters]
    total = communicator.all_reduce(problem.y.new_tensor(own, dtype=torch.float64))
    return NetworkCalls(round(float(total[0]) / problem.num_slices), round(float(total[1])))
