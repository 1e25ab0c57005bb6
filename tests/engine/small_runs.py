"""Runs of few steps on a small scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddip_ray.config.load import load_config
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import Event, StepEvent
from ddip_ray.engine.planning.layout import Layout
from ddip_ray.engine.run import reconstruct
from ddip_ray.errors import Interrupted
from ddip_ray.io.stores.result import open_result

# One thread: there is a process of tests for each core, and threads that share one wait for each other.
LOCAL: dict[str, Any] = {"layout": Layout(executor="local", num_threads=1)}


def config(method: str, prior: str) -> RunConfig:
    values = {
        "method": method,
        "prior": prior,
        # Slice by slice every step is twelve times as dear.
        "sampler": {"num_steps": 2 if method in ("ddip", "scd") else 4},
        "adaptation": {
            "num_adapt_steps": 1,
            "num_adapt_slices": 2,
            "lora_rank": 2,
            "adapt_start_t": 999,
            "num_copies": 2,
        },
        "validation": {"strengths": [0.0, 1.0], "num_slices": 4},
        "tv": {"iterations": 5},
        "meta": {"inner_steps": 1, "refine_steps": 1},
        "dps": {"num_steps": 5, "scale": 0.1},
        "predictor_corrector": {"num_steps": 4},
    }
    return load_config(None, values)


def volume(store: Path, name: str, config: RunConfig, **layout: object) -> np.ndarray:
    output = str(store.parent / f"{name}.zarr")
    reconstruct(str(store), output, config, **layout)  # type: ignore[arg-type]
    result = open_result(output)
    return result.read(0, result.shape[0])


class Stop:
    """Asks for an end after ``step`` steps."""

    def __init__(self, step: int) -> None:
        self.step, self.events = step, list[Event]()

    def __call__(self) -> bool:
        return len(self.steps) == self.step

    @property
    def steps(self) -> list[StepEvent]:
        return [event for event in self.events if isinstance(event, StepEvent)]


def stopped(store: Path, name: str, config: RunConfig, step: int, **layout: Any) -> None:
    stop = Stop(step)
    with pytest.raises(Interrupted, match=r"after step \d+ of") as error:
        volume(store, name, config, should_stop=stop, on_event=stop.events.append, **layout)
    assert error.value.can_resume


def folder(store: Path, name: str) -> Path:
    return store.parent / f"{name}.zarr.snapshots"
