"""What the engine's tests share: an untrained prior, one Ray cluster, and workers that need none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def prior(untrained_prior: Path) -> str:
    """Layouts must agree whatever the weights."""
    return str(untrained_prior)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of several workers have them in processes without Ray, which begin at once."""
    from processes import ProcessExecutor

    from ddip_ray.engine import run

    original = run.make_executor

    def make_executor(plan: run.RunPlan, adapter: bytes | None) -> object:
        return ProcessExecutor() if plan.executor == "ray" else original(plan, adapter)

    monkeypatch.setattr(run, "make_executor", make_executor)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One cluster for the module: starting Ray takes seconds."""
    import os

    from ddip_ray.engine.ray.cluster import QUIET

    os.environ.update(QUIET)
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "object_store_memory": 100 * 2**20}
    ray.init(address="local", num_cpus=3, **quiet)
    yield
    ray.shutdown()
