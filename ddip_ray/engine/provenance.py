"""What is written down with a result."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from ddip_ray import __version__
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.planning.layout import RunPlan
from ddip_ray.engine.worker import MethodFacts
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.solvers.build import read_adapter


def contents(digests: Iterable[bytes], prior_digest: str | None, adapter_digest: str) -> dict[str, Any]:
    """Of what settings only name: the measurements of all slices, the prior, the first adapter."""
    measurements = hashlib.sha256(b"".join(digests)).hexdigest()
    return {
        "measurements_digest": measurements,
        "prior_digest": prior_digest,
        "adapter_digest": adapter_digest,
    }


def digest_of_adapter(config: RunConfig) -> str:
    """Of the file to start from; of nothing without one."""
    return hashlib.sha256(read_adapter(config) or b"").hexdigest()


def provenance(
    acquisition: Acquisition,
    config: RunConfig,
    plan: RunPlan,
    facts: MethodFacts,
    *,
    digests: bytes,
    adapter_digest: str,
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
        **contents([digests], facts.prior_digest, adapter_digest),
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
