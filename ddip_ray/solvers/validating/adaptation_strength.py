"""How strongly to adapt, if at all, decided by measurements that a reconstruction has not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import ValidationSettings
from ddip_ray.prior.denoiser import DiffusionPrior, Network
from ddip_ray.solvers.core.state import Recorder
from ddip_ray.solvers.sampling.sampler import Sampler, SamplerState
from ddip_ray.solvers.validating.held_out import hold_out, log_gain_lower_bound, parabola_minimum


class Validation:
    """A second reconstruction of a few slices, with some views held out, follows the real one.

    From the first adapted step on it branches into one state for each candidate strength (0 is no
    adaptation), all with the same noise, which makes small differences tell. The strength at which the
    held-out views are met best is used: the adapter was trained on rescans of a result of all views, and what
    does not help is taken back. The reconstruction never starts from an earlier one, which has seen the
    held-out views. Where no strength has been clearly better than 0 for ``patience`` adapted steps, adapting
    is ``stopped_early``.
    """

    def __init__(
        self, sampler: Sampler, prior: DiffusionPrior, settings: ValidationSettings, adapter: Adapter
    ) -> None:
        """A validation at its start.

        Args:
            sampler: sampler of the real reconstruction.
            prior: its prior.
            settings: what is held out and tried.
            adapter: the adapter that is being trained.
        """
        self.settings, self.communicator = settings, sampler.communicator
        self.prior, self.adapter = prior, adapter
        couples_slices = sampler.data_consistency.couples_slices
        spacing = settings.spacing(sampler.problem.num_slices, couples_slices=couples_slices)
        self.held_out = hold_out(sampler.problem, spacing, settings.held_out_share, sampler.seed)
        trajectory = sampler.settings
        if trajectory.start == "reconstruction":
            trajectory = trajectory.model_copy(update={"start": "pseudo_inverse"})
        self.sampler = sampler.for_problem(self.held_out.seen, settings=trajectory)
        self.state = self.sampler.initial_state()  # until the first adapted step
        self.strengths = sorted(settings.strengths)
        self.at_strength: dict[float, SamplerState] = {}  # from that step on
        self.adapters: list[tuple[int, Adapter]] = []  # adapted steps, and the adapter at each
        self.has_gained = self.stopped_early = False
        self.strength = 1.0  # until it is chosen

    def planned_calls(self, num_plain_steps: int, num_adapted_steps: int) -> int:
        """Network calls over the whole volume, for numbers of steps before and from the first adapted one."""
        return self.held_out.seen.num_slices * (num_plain_steps + len(self.strengths) * num_adapted_steps)

    def first_pass(self, i: int, is_adapted_step: bool, network: Network | None) -> None:
        """Take step ``i`` by the real one's ``network``, up to the first adapted step."""
        if is_adapted_step and not self.at_strength:
            self.at_strength = dict.fromkeys(self.strengths, self.state)
        if not self.at_strength:
            self.state = self.sampler.step(self.state, i, network)

    def update(self, i: int) -> str | None:
        """Take the adapted step ``i`` at each strength by the adapter as it now is.

        Returns:
            A note if adapting is stopped after it.
        """
        self.adapters.append((i, self.adapter.copy()))
        if self.stopped_early:
            return None
        for strength, state in self.at_strength.items():
            with torch.no_grad():
                network = self.adapter.bind(self.prior.network, strength)
                self.at_strength[strength] = self.sampler.step(state, i, network)
        if self.has_gained or 0 not in self.strengths:
            return None
        squared = self.squared_misfits()
        self.has_gained = any(log_gain_lower_bound(own, squared[0]) > 0 for own in squared.values())
        self.stopped_early = not self.has_gained and len(self.adapters) == self.settings.patience
        return (
            f"adapting given up after step {i + 1} of {self.sampler.num_steps}"
            if self.stopped_early
            else None
        )

    def squared_misfits(self) -> dict[float, Tensor]:
        """Squared misfits of the held-out measurements at each strength, (slice,) of all workers."""
        return {
            strength: self.held_out.squared_misfits(state.x0, self.communicator)
            for strength, state in self.at_strength.items()
        }

    def choose(self, begins_adapted: bool) -> str:
        """Fix the strength by `choose_strength`; a note that says why.

        Args:
            begins_adapted: whether the steps before go by an initial adapter, whatever is chosen.
        """
        self.strength, misfits = choose_strength(self.squared_misfits())
        found = f"misfit of held-out views {misfits}"
        if self.strength > 0:
            return f"adapted at strength {self.strength:.3g}; {found}"
        how = "adapted in the early steps only" if begins_adapted else "not adapted"
        return f"{how}, for no clear gain; {found}"

    def network(self, k: int) -> tuple[int, Network]:
        """The ``k``-th adapted step, and the network for it at the strength that was chosen."""
        i, adapter = self.adapters[k]
        with torch.no_grad():
            return i, adapter.bind(self.prior.network, self.strength)

    def save_or_restore(self, recorder: Recorder) -> None:
        """Hand the states to ``recorder``, or take them from there; names are as they were from the start."""
        slab = self.held_out.seen.slab
        self.state = self.state.save_or_restore(recorder.within("shadow"), slab)
        self.sampler.save_or_restore_calls(recorder.within("shadow"))
        if recorder.value("is_late", bool(self.at_strength)):
            states = self.at_strength or dict.fromkeys(self.strengths, self.state)
            self.at_strength = {
                strength: state.save_or_restore(recorder.within(f"late-{k}"), slab)
                for k, (strength, state) in enumerate(states.items())
            }
        self.has_gained, self.stopped_early = recorder.value("found", [self.has_gained, self.stopped_early])
        self.strength = recorder.value("strength", self.strength)
        steps = recorder.value("steps", [i for i, _ in self.adapters])
        values = [adapter.flat() for _, adapter in self.adapters]
        kept = recorder.shared("adapters", torch.stack(values) if values else self.adapter.flat()[:0])
        if recorder.restoring:
            self.adapters = [(i, self.adapter.copy()) for i in steps]
            for (_, adapter), flat in zip(self.adapters, kept, strict=True):
                adapter.load(flat)


def choose_strength(squared: Mapping[float, Tensor]) -> tuple[float, str]:
    """The strength of the least misfit among those that are clearly better than strength 0.

    Args:
        squared: squared misfits of the held-out measurements at each strength, (slice,).

    Returns:
        The strength, 0 where none is clearly better, and the misfit at each strength in words.
    """
    misfits = {strength: math.sqrt(float(slices.sum())) for strength, slices in squared.items()}
    words = ", ".join(f"{misfit:.5f} at {strength:g}" for strength, misfit in misfits.items())
    if 0 in squared:
        misfits = {
            strength: misfit
            for strength, misfit in misfits.items()
            if strength == 0 or log_gain_lower_bound(squared[strength], squared[0]) > 0
        }
    return parabola_minimum(misfits), words
