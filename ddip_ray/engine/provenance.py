"""What is written down with a result."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from ddip_ray import __version__
from ddip_ray.engine.plan import RunPlan
from ddip_ray.engine.worker import MethodFacts
from ddip_ray.io.acquisition import Acquisition
from ddip_ray.solvers.settings import RunConfig


def provenance(
    acquisition: Acquisition,
    config: RunConfig,
    plan: RunPlan,
    facts: MethodFacts,
    *,
    executor: str,
    residual: float,
    timings: dict[str, float],
) -> dict[str, Any]:
    """Everything needed to make this result again, and to judge it."""
    packages = ("torch", "numpy", "zarr", "tensorstore", "ray", "diffusers")
    return {
        "method": config.method,
        "config": config.model_dump(mode="json"),
        "acquisition": {"path": acquisition.path, **acquisition.metadata.model_dump(mode="json")},
        "prior_digest": facts.prior_digest,
        "nfe": facts.nfe,
        "adapt_nfe": facts.adapt_nfe,
        "residual": residual,
        "seconds": timings,
        "layout": {
            "executor": executor,
            "device": plan.device,
            "slabs": [[slab.start, slab.stop] for slab in plan.slabs],
            "threads_per_worker": plan.threads_per_worker,
        },
        "versions": {"ddip-ray": __version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
    }
