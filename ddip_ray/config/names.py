"""Names that settings, stores and commands share; importable without pydantic, torch or ray."""

from __future__ import annotations

from typing import Literal

MethodName = str  # a key of `ddip_ray.config.methods.METHODS`
PresetName = Literal["default", "paper"]
SamplingPattern = Literal[
    "full", "uniform1d", "random1d", "gaussian1d", "gaussian2d", "poisson", "radial", "spiral"
]
