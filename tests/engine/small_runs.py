"""Runs of few steps on a small scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddip_ray.engine.config import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.io.result import open_result
from ddip_ray.solvers.settings import RunConfig


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
            "num_twins": 2,
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
