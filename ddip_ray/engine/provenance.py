"""The record that a result keeps of its making, and the identity of a run."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from ddip_ray import __version__
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.planning.layout import RunPlan
from ddip_ray.engine.snapshots.store import Progress
from ddip_ray.engine.worker import MethodFacts, WriteReport
from ddip_ray.io.stores.acquisition import Acquisition

_PACKAGES = ("torch", "numpy", "zarr", "tensorstore", "ray", "diffusers")


def contents(digests: Iterable[bytes], prior_digest: str | None, adapter_digest: str) -> dict[str, Any]:
    """Digests of the data that the settings only name: measurements, prior and initial adapter.

    Args:
        digests: digests of the measurements, in slice order.
        prior_digest: digest of the prior; None for methods without one.
        adapter_digest: `digest_of_adapter` of the initial adapter.
    """
    measurements = hashlib.sha256(b"".join(digests)).hexdigest()
    return {
        "measurements_digest": measurements,
        "prior_digest": prior_digest,
        "adapter_digest": adapter_digest,
    }


def digest_of_adapter(adapter: bytes | None) -> str:
    """SHA-256 of an adapter file's contents; that of an empty file if there is no adapter."""
    return hashlib.sha256(adapter or b"").hexdigest()


def identity(
    acquisition: Acquisition, config: RunConfig, prior_digest: str | None, adapter_digest: str
) -> dict[str, Any]:
    """The properties that a run shares with the snapshots from which it may go on.

    The measurements are not part of it: each worker compares those of its own slices.

    Args:
        acquisition: the acquisition, of which only the metadata counts.
        config: the settings; ``micro_batch`` does not count, because it changes no result.
        prior_digest: digest of the prior; None for methods without one.
        adapter_digest: `digest_of_adapter` of the initial adapter.
    """
    return {
        "ddip-ray": __version__,
        "settings": config.model_dump(mode="json", exclude={"micro_batch"}),
        "acquisition": acquisition.metadata.model_dump(mode="json"),
        "prior": prior_digest,
        "adapter": adapter_digest,
    }


def provenance(
    acquisition: Acquisition,
    config: RunConfig,
    plan: RunPlan,
    facts: MethodFacts,
    *,
    progress: Progress,
    written: WriteReport,
    adapter_digest: str,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Everything needed to make a result again, and to judge it.

    Args:
        acquisition: the acquisition that was reconstructed.
        config: all settings.
        plan: the slabs and the device of the workers that finished the run.
        facts: the method after its last step.
        progress: the steps that were made, by which workers, and the last residual.
        written: what all workers wrote, combined.
        adapter_digest: `digest_of_adapter` of the initial adapter.
        seconds: how long the run and its parts took.
    """
    return {
        "method": config.method,
        "config": config.model_dump(mode="json"),
        "acquisition": {"path": acquisition.path, **acquisition.metadata.model_dump(mode="json")},
        **contents([written.digests], facts.prior_digest, adapter_digest),
        "nfe": facts.nfe,
        "adapt_nfe": facts.adapt_nfe,
        "residual": progress.last_residual,
        "seconds": seconds,
        "layout": {
            "executor": plan.executor,
            "device": plan.device,
            "slabs": [[slab.start, slab.stop] for slab in plan.slabs],
            "threads_per_worker": plan.threads_per_worker,
        },
        "versions": {"ddip-ray": __version__, "python": platform.python_version()}
        | {name: version(name) for name in _PACKAGES},
        "attempts": [attempt.model_dump(mode="json") for attempt in progress.attempts],
        "peak_bytes_of_a_worker": written.peak_bytes,
        "notes": list(progress.notes),
    }
