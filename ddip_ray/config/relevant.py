"""What a method's result depends on."""

from __future__ import annotations

from typing import Any

from ddip_ray.config.settings import MethodName, RunConfig

# Sections of `RunConfig` that a method listens to.
SECTIONS: dict[MethodName, tuple[str, ...]] = {
    "zero-filled": (),
    "fbp": ("fbp",),
    "cg": ("cg",),
    "tv": ("tv",),
    "dps": ("dps",),
    "score-sde": ("sampler", "predictor_corrector"),
    "ddnm": ("sampler",),
    "diffpir": ("sampler", "diffpir"),
    "dds": ("sampler",),
    "diffusionmbir": ("sampler", "mbir", "predictor_corrector"),
    "ddip": ("sampler", "adaptation", "scd"),
    "scd": ("sampler", "adaptation", "scd"),
    "d3ip": ("sampler", "adaptation", "validation", "scd"),
    "d3ip-mbir": ("sampler", "adaptation", "validation", "mbir", "scd"),
    "d3ip-meta": ("sampler", "adaptation", "meta", "scd"),
}
_WITH_PRIOR = ("prior", "adapter", "start_from", "seed", "noise")


def relevant(config: RunConfig) -> dict[str, Any]:
    """The settings, as JSON, that decide the volume: two configurations that agree in them make the same."""
    names = {"method", *SECTIONS[config.method], *(_WITH_PRIOR if config.uses_prior else ())}
    return config.model_dump(mode="json", include=names)
