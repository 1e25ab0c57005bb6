"""The fault table: on a cluster of nodes with a worker each, a run ends in the undisturbed volume."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faults import FAULTS, SimulatedCluster, disturbed, simulated_cluster
from small_runs import LOCAL, config, volume

BOUNDS = {"tv": 1e-5}  # sums over slabs, against one worker; all others: the bits


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimulatedCluster]:
    with simulated_cluster(2) as simulated:
        yield simulated


# One method for each fault, in turn; bench_faults.py has all that it can befall.
CASES = [(name, fault.methods[k % len(fault.methods)]) for k, (name, fault) in enumerate(FAULTS.items())]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_run_through_a_fault_ends_in_the_same_volume(
    small_scan: Path, prior: str, cluster: SimulatedCluster, name: str, method: str
) -> None:
    while len(cluster.nodes) < 2:
        cluster.add_node()
    settings, fault = config(method, prior), FAULTS[name]
    if method == "d3ip":  # three times as many steps as its sampler has
        settings = settings.model_copy(
            update={"sampler": settings.sampler.model_copy(update={"num_steps": 2})}
        )
    whole = volume(small_scan, "whole", settings, **LOCAL)
    found = disturbed(small_scan, small_scan.parent / "out.zarr", settings, fault, cluster)
    assert np.abs(found.volume - whole).max() <= BOUNDS.get(method, 0)
    assert any(re.match(fault.seen, text) for text in found.messages), found.messages
    assert any(text.startswith("going on after step") for text in found.messages), found.messages
    left = sorted(path.name for path in small_scan.parent.iterdir())
    assert left == ["out.zarr", "vol.zarr", "whole.zarr"]
