"""One attempt at a volume of a cohort: reconstruct it, score it, and hand its adapter to the next volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddip_ray.config.load import load_config
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import Event, Message
from ddip_ray.engine.planning.layout import Layout
from ddip_ray.engine.run import Resilience, reconstruct
from ddip_ray.engine.worker import ADAPTER_NAME
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.result import load_file, open_result
from ddip_ray.tasks.cohort.adapter_library import AdapterLibrary
from ddip_ray.tasks.cohort.ledger import Entry, Ledger, VolumeState, this_driver
from ddip_ray.tasks.cohort.slots import Slots
from ddip_ray.tasks.compare.compare import is_made
from ddip_ray.tasks.judge.evaluate import evaluate

NO_ADAPTER = "none"

Say = Callable[[str, Event], None]
"""A function that is told (name of a volume, event)."""

Attempt = Callable[[Entry, int, Callable[[Event], None], Callable[[], bool]], dict[str, Any]]
"""A function of (entry, number of slots, on_event, should_stop) that returns what the ledger records."""


@dataclass(frozen=True)
class VolumeReconstruction:
    """The `Attempt` of a real cohort.

    Attributes:
        ledger: The cohort's ledger.
        slots: What workers run on.
        snapshot_every: Steps or time between snapshots, as `reconstruct` takes it.
        library: Adapters to start from, to which new ones are added; None treats every volume by itself.
        say: Is told which adapter a volume starts from.
    """

    ledger: Ledger
    slots: Slots
    snapshot_every: str
    library: AdapterLibrary | None
    say: Say

    def __call__(
        self,
        entry: Entry,
        num_slots: int,
        on_event: Callable[[Event], None],
        should_stop: Callable[[], bool],
    ) -> dict[str, Any]:
        """Reconstruct a volume, unless its result is there already, and score it if it has a reference.

        Args:
            entry: The volume.
            num_slots: Number of workers or GPUs.
            on_event: Is told of each step and message.
            should_stop: Whether to stop after the current step.

        Returns:
            The values that the ledger records.
        """
        config, acquisition = self.config_of(entry), open_acquisition(entry.store)
        if not is_made(entry.output, config, acquisition):
            reconstruct(
                entry.store,
                entry.output,
                config,
                layout=Layout(
                    num_workers=None if self.slots.on_gpus else num_slots,
                    num_gpus=num_slots if self.slots.on_gpus else None,
                    executor="ray",
                    num_threads=self.slots.num_threads,
                ),
                resilience=Resilience(self.snapshot_every),
                on_event=on_event,
                should_stop=should_stop,
            )
        made: Any = open_result(entry.output).provenance
        values = {
            "state": VolumeState.DONE,
            "seconds": made["seconds"]["total"],
            "residual": made["residual"],
        }
        try:  # a volume that is done stays done
            if acquisition.has_reference:
                scores = evaluate(entry.output, acquisition=acquisition)
                values |= {"psnr": scores.psnr, "ssim": scores.ssim}
            if self.library is not None and leaves_one_adapter(config):
                self.library.add(entry.tag, load_file(entry.output, ADAPTER_NAME), entry.name)
        except Exception as error:
            self.say(entry.name, Message(f"done, but not scored, or its adapter not added: {error}"))
        return values

    def config_of(self, entry: Entry) -> RunConfig:
        """The configuration of a volume, with the adapter to start from, the same one in every attempt."""
        config = load_config(None, entry.settings)
        if self.library is None or not leaves_one_adapter(config) or config.adapter is not None:
            return config
        adapter = entry.adapter
        if not adapter:
            adapter = str(self.library.latest(entry.tag) or NO_ADAPTER)
            self.ledger.update(entry.name, this_driver(), adapter=adapter)
        if adapter == NO_ADAPTER:
            self.say(entry.name, Message(f"no adapter of {entry.tag} when it was begun: starts from none"))
            return config
        sources = ", ".join(self.library.volumes(Path(adapter)))
        self.say(entry.name, Message(f"starts from {adapter}, learned from {sources}"))
        return config.model_copy(update={"adapter": adapter})


def leaves_one_adapter(config: RunConfig) -> bool:
    """Whether the method trains one adapter for the volume and stores it in the result."""
    return config.row.adapts and config.row.adapter_is_shared
