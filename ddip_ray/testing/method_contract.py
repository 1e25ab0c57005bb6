"""Properties of every reconstruction method: inherit ``MethodContract`` and say how to make one."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Alone, Communicator
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.network_calls import NetworkCalls
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Record, Recorder
from ddip_ray.testing.workers import Member, on_workers


class MethodContract:
    """The checks, for pytest. A subclass defines `make_prior` and `make_method`, small ones.

    Attributes:
        num_slices: slices of the volume; the layouts below are of 6.
        layouts: boundaries of slabs on which the volume must be the same.
        relays: boundaries of slabs of the workers that take the first step, the second and so on in turn.
        tol: largest difference between the volumes of two layouts; 0 where they are equal to the bit.
        lowest: lower bound of the result, in the acquisition's normalised units; None if there is none.
        ends_early: whether the run makes fewer network calls than were planned.
        variant: name of the method, where one class tests several.
    """

    num_slices = 6
    layouts: tuple[list[int], ...] = ([0, 3, 6], [0, 1, 4, 6])
    relays: tuple[list[int], ...] = ([0, 2, 6], [0, 3, 5, 6], [0, 4, 6], [0, 1, 6], [0, 6])
    tol = 1e-5
    lowest: float | None = 0.0
    ends_early = False
    variant = ""
    _undisturbed: ClassVar[dict[tuple[type, str], Run]] = {}

    def make_prior(self) -> DiffusionPrior | None:
        """A new prior of one channel that denoises one slice a call; None for classical methods."""
        raise NotImplementedError

    def make_method(self, slab: Slab, communicator: Communicator, prior: Any) -> Method:
        """The method at its start, on a slab of the volume."""
        raise NotImplementedError

    @property
    def undisturbed(self) -> Run:
        """The run on one worker, from the first step to the last; the same for all tests of a variant."""
        key = (type(self), self.variant)
        if key not in self._undisturbed:
            self._undisturbed[key] = Run(self)
        return self._undisturbed[key]

    def test_same_volume_on_any_layout(self) -> None:
        """Slabs change nothing."""
        for edges in self.layouts:
            x = on_workers(edges, lambda slab, member: Run(self, slab, member).result)
            assert (x - self.undisturbed.result).abs().max() <= self.tol, f"slabs between {edges}"

    def test_resumes_at_every_step(self) -> None:
        """New workers that take every step from the last ones' record come to the same result."""
        x, calls = self.in_relays([[0, self.num_slices]])
        assert torch.equal(x, self.undisturbed.result)
        assert calls == self.undisturbed.calls

    def test_resumes_on_any_layout(self) -> None:
        """New workers may be more or fewer than the last ones."""
        x, calls = self.in_relays(list(self.relays))
        assert (x - self.undisturbed.result).abs().max() <= max(self.tol, 1e-5)
        assert calls == self.undisturbed.calls

    def test_counts_its_network_calls(self) -> None:
        """Counted calls are those that a spy in the network sees, and those that were planned."""
        run = self.undisturbed
        counted = run.calls.calls_per_slice * self.num_slices + run.calls.adaptation_calls
        assert counted == run.seen_calls
        if not self.ends_early:
            assert run.calls == run.method.planned
        else:
            planned = run.method.planned
            assert run.calls.calls_per_slice <= planned.calls_per_slice
            assert run.calls.adaptation_calls < planned.adaptation_calls

    def test_result_is_an_image_within_range(self) -> None:
        """The result is finite and not below the lowest value."""
        x = self.undisturbed.result
        assert x.ndim == 3
        assert len(x) == self.num_slices
        assert torch.isfinite(x.abs()).all()
        if self.lowest is not None:
            assert float(x.min()) >= self.lowest

    def test_leaves_the_prior_as_it_was(self) -> None:
        """No weight of the prior changes, and no graph is left behind."""
        run = self.undisturbed
        assert not run.result.requires_grad
        if run.prior is not None:
            fresh = self.make_prior()
            assert fresh is not None
            for new, used in zip(fresh.network.parameters(), run.prior.network.parameters(), strict=True):
                assert torch.equal(new, used)
                assert used.grad is None

    def in_relays(self, layouts: list[list[int]]) -> tuple[Tensor, NetworkCalls]:
        """The result where new workers, on the next of ``layouts``, take every step from the last record."""
        records: dict[int, Record] = {}
        x, calls, i, is_last = torch.empty(0), NetworkCalls(), 0, False

        def take_step(slab: Slab, member: Member) -> Tensor:
            nonlocal calls, is_last
            method = self.make_method(slab, member, self.make_prior())
            if last is not None:
                method.save_or_restore(Recorder(last, restoring=True))
            is_last = method.step(i).last or i + 1 == method.num_steps
            calls = method.network_calls()
            record = Record()
            method.save_or_restore(Recorder(record))
            record.values = json.loads(json.dumps(record.values))  # as they come back from a file
            records[slab.start] = record
            return method.result()

        while not is_last:
            last = Record.joined([records[start] for start in sorted(records)]) if records else None
            records = {}
            x = on_workers(layouts[i % len(layouts)], take_step)
            i += 1
        return x, calls


class Run:
    """A method that has taken all its steps on one slab, with a spy in the network.

    Attributes:
        result: slices of the slab.
        calls: network calls that the method has counted.
        seen_calls: network calls of this worker that the spy has seen.
    """

    def __init__(
        self, contract: MethodContract, slab: Slab | None = None, communicator: Communicator | None = None
    ) -> None:
        self.prior, self.seen_calls = contract.make_prior(), 0
        spy = None if self.prior is None else self.prior.network.register_forward_pre_hook(self._see)
        slab = slab or Slab(0, contract.num_slices)
        self.method = contract.make_method(slab, communicator or Alone(), self.prior)
        for i in range(self.method.num_steps):
            if self.method.step(i).last:
                break
        self.result, self.calls = self.method.result(), self.method.network_calls()
        if spy is not None:
            spy.remove()

    def _see(self, network: Any, arguments: tuple[Any, ...]) -> None:
        self.seen_calls += len(arguments[0])
