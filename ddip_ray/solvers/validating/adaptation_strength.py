"""How strongly to adapt, if at all, decided by measurements that a reconstruction has not seen."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import ValidationSettings
from ddip_ray.solvers.core.state import State
from ddip_ray.solvers.core.steps import Network
from ddip_ray.solvers.sampling.sampler import Sampler
from ddip_ray.solvers.validating.held_out import clear_gain, held_out, least


class Validation:
    """Reconstructs some slices without some of their views, and asks which strength meets those views best.

    The shadow reconstruction goes the same way as the real one, but that it knows no earlier reconstruction,
    which has seen those views. At the late steps it is one for each of ``strengths``, by the adapter of that
    step, which rescans of a result of all views have taught: at 0 they are those of the prior, so that
    what does not help is taken back. All begin in the same state and have the same noise, which makes small
    differences tell. Where none has been clearly better than 0 for some late steps, adapting is ``given_up``.
    """

    def __init__(self, sampler: Sampler, settings: ValidationSettings, adapter: Adapter) -> None:
        self.settings, self.communicator, self.adapter = settings, sampler.communicator, adapter
        spacing = settings.spacing(sampler.problem.num_slices, couples_slices=sampler.rule.couples_slices)
        self.held_out = held_out(sampler.problem, spacing, settings.held_out_share, sampler.seed)
        unaware = copy.copy(sampler)
        if sampler.settings.start == "reconstruction":
            unaware.settings = sampler.settings.model_copy(update={"start": "pseudo_inverse"})
        self.shadow = unaware.on(self.held_out.seen)
        self.strengths = sorted(settings.strengths)
        self.late: list[Sampler] = []  # the shadow at each strength, once the late steps begin
        self.adapters: list[tuple[int, Adapter]] = []  # by which the late steps were made
        self.gained = self.given_up = False  # whether any strength ever was clearly better than 0
        self.strength = 1.0  # until it is chosen

    def num_calls(self, num_early: int, num_late: int) -> int:
        """Network calls over the whole volume, for so many early and late steps."""
        return self.held_out.seen.num_slices * (num_early + len(self.strengths) * num_late)

    def first_pass(self, i: int, is_late: bool, network: Network | None) -> None:
        """The shadow's step ``i``, by the real one's ``network``; only up to where the late steps begin."""
        if is_late and not self.late:
            self.late = [self.shadow.fork() for _ in self.strengths]
        if not self.late:
            self.shadow.advance(i, network)

    def watch(self, i: int) -> str | None:
        """The late step ``i`` by the ``adapter`` as it now is; a note if adapting is given up after it."""
        self.adapters.append((i, self.adapter.copy()))
        if self.given_up:
            return None
        for strength, shadow in zip(self.strengths, self.late, strict=True):
            with torch.no_grad():
                shadow.advance(i, self.adapter.bind(shadow.prior.network, strength))
        if self.gained or 0 not in self.strengths:
            return None
        squared = self.squared_misfits()
        self.gained = any(clear_gain(own, squared[0]) > 0 for own in squared.values())
        self.given_up = not self.gained and len(self.adapters) == self.settings.patience
        return f"adapting given up after step {i + 1} of {self.shadow.num_steps}" if self.given_up else None

    def squared_misfits(self) -> dict[float, Tensor]:
        """At each strength, of the held-out measurements of all workers by slice."""
        return {
            strength: self.held_out.squared_misfits(shadow.x0, self.communicator)
            for strength, shadow in zip(self.strengths, self.late, strict=True)
        }

    def choose(self, begins_adapted: bool) -> str:
        """The strength of least misfit of the held-out measurements, of those clearly better than 0; and why.

        ``begins_adapted``: the early steps go by an adapter that was given, whatever is chosen.
        """
        squared = self.squared_misfits()
        misfits = {strength: math.sqrt(float(slices.sum())) for strength, slices in squared.items()}
        found = ", ".join(f"{misfit:.5f} at {strength:g}" for strength, misfit in misfits.items())
        if 0 in squared:
            misfits = {s: m for s, m in misfits.items() if s == 0 or clear_gain(squared[s], squared[0]) > 0}
        self.strength = least(misfits)
        if self.strength == 0:
            how = "adapted in the early steps only" if begins_adapted else "not adapted"
            return f"{how}, for no clear gain; misfit of held-out views {found}"
        return f"adapted at strength {self.strength:.3g}; misfit of held-out views {found}"

    def network(self, k: int) -> tuple[int, Network]:
        """The ``k``-th late step, and the network for it at the strength that was chosen."""
        i, adapter = self.adapters[k]
        with torch.no_grad():
            return i, adapter.bind(self.shadow.prior.network, self.strength)

    def keep(self, state: State) -> None:
        self.shadow.keep(state.within("shadow"))
        if state.value("is_late", bool(self.late)):
            self.late = self.late or [self.shadow.fork() for _ in self.strengths]
            for k, shadow in enumerate(self.late):
                shadow.keep(state.within(f"late-{k}"))
        self.gained, self.given_up = state.value("found", [self.gained, self.given_up])
        self.strength = state.value("strength", self.strength)
        steps = state.value("steps", [i for i, _ in self.adapters])
        own = [adapter.flat() for _, adapter in self.adapters]
        kept = state.shared("adapters", torch.stack(own) if own else self.adapter.flat()[:0])
        if state.restoring:
            self.adapters = [(i, self.adapter.copy()) for i in steps]
            for (_, adapter), values in zip(self.adapters, kept, strict=True):
                adapter.load(values)
