"""How strongly to adapt, decided by measurements that a reconstruction has not seen."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.solvers.held_out import held_out, is_clearly_less, least
from ddip_ray.solvers.sampler import Sampler
from ddip_ray.solvers.settings import ValidationSettings
from ddip_ray.solvers.state import State
from ddip_ray.solvers.steps import Network


class Validation:
    """Reconstructs some slices without some of their views, and asks which strength meets those views best.

    The shadow reconstruction goes the same way as the real one, but that it knows no earlier reconstruction,
    which has seen those views. Its late steps are repeated with the adapters of those steps, which rescans of
    a result of all views have taught, at each of ``strengths``: at 0 they are those of the prior, so that
    what does not help is taken back. Every strength is tried from the same state with the same noise, which
    makes small differences tell.
    """

    def __init__(self, sampler: Sampler, settings: ValidationSettings, adapter: Adapter) -> None:
        self.settings, self.communicator, self.adapter = settings, sampler.communicator, adapter
        num_slices = sampler.problem.num_slices
        spacing = 1 if sampler.rule.couples_slices else max(1, num_slices // settings.num_slices)
        self.held_out = held_out(sampler.problem, spacing, settings.held_out_share, sampler.seed)
        unaware = copy.copy(sampler)
        if sampler.settings.start == "reconstruction":
            unaware.settings = sampler.settings.model_copy(update={"start": "pseudo_inverse"})
        self.shadow = unaware.on(self.held_out.seen)
        self.late: Sampler | None = None
        self.adapters: list[tuple[int, Adapter]] = []

    def num_calls(self, num_early: int, num_late: int) -> int:
        """Network calls over the whole volume, for so many early and late steps."""
        return self.held_out.seen.num_slices * (num_early + len(self.settings.strengths) * num_late)

    def first_pass(self, i: int, is_late: bool, network: Network | None) -> None:
        """The shadow's step ``i``, by the real one's ``network``; only up to where the late steps begin."""
        if is_late and self.late is None:
            self.late = self.shadow.fork()
        if self.late is None:
            self.shadow.advance(i, network)

    def remember(self, i: int) -> None:
        """The ``adapter`` as it now is, for the late step ``i`` to use."""
        self.adapters.append((i, self.adapter.copy()))

    def choose(self, begins_adapted: bool) -> tuple[float, str]:
        """The strength of least misfit of the held-out measurements, of those clearly better than 0, and why.

        ``begins_adapted``: the early steps go by an adapter that was given, whatever is chosen.
        """
        squared = {strength: self.squared_misfits(strength) for strength in sorted(self.settings.strengths)}
        misfits = {strength: math.sqrt(float(slices.sum())) for strength, slices in squared.items()}
        found = ", ".join(f"{misfit:.5f} at {strength:g}" for strength, misfit in misfits.items())
        if 0 in squared:
            misfits = {s: m for s, m in misfits.items() if s == 0 or is_clearly_less(squared[s], squared[0])}
        strength = least(misfits)
        if strength == 0:
            how = "adapted in the early steps only" if begins_adapted else "not adapted"
            return 0.0, f"{how}, for no clear gain; misfit of held-out views {found}"
        return strength, f"adapted at strength {strength:.3g}; misfit of held-out views {found}"

    def keep(self, state: State) -> None:
        self.shadow.keep(state.within("shadow"))
        if state.value("is_late", self.late is not None) and self.late is None:
            self.late = self.shadow.fork()  # which has not moved since
        steps = state.value("steps", [i for i, _ in self.adapters])
        own = [adapter.flat() for _, adapter in self.adapters]
        kept = state.shared("adapters", torch.stack(own) if own else self.adapter.flat()[:0])
        if state.restoring:
            self.adapters = [(i, self.adapter.copy()) for i in steps]
            for (_, adapter), values in zip(self.adapters, kept, strict=True):
                adapter.load(values)

    def squared_misfits(self, strength: float) -> Tensor:
        """Of the held-out measurements of all workers by slice, after late steps at ``strength``."""
        assert self.late is not None
        shadow = self.late.fork()
        for i, adapter in self.adapters:
            with torch.no_grad():
                shadow.advance(i, adapter.bind(shadow.prior.network, strength))
        return self.held_out.squared_misfits(shadow.x0, self.communicator)
