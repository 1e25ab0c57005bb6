"""Runs of few steps on a small scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddip_ray.engine.config import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.io.result import open_result
from ddip_ray.solvers.settings import RunConfig

FEW_STEPS = {"num_steps": 4}


def config(method: str, prior: str) -> RunConfig:
    values = {
        "method": method,
        "prior": prior,
        "sampler": FEW_STEPS,
        "adaptation": {
            "num_adapt_steps": 1,
            "num_adapt_slices": 2,
            "lora_rank": 2,
            "adapt_start_t": 999,
            "num_twins": 2,
        },
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
