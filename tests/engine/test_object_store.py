"""An acquisition in an object store, reconstructed by two nodes into one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faults import simulated_cluster
from small_runs import LOCAL, Stop, config, volume

from ddip_ray.engine.run import Resilience, reconstruct
from ddip_ray.errors import Interrupted
from ddip_ray.io import paths
from ddip_ray.io.stores.result import load_file, open_result


def upload(folder: Path, url: str) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            paths.write_bytes(url, str(file.relative_to(folder)), file.read_bytes())


def test_from_s3_to_s3_on_two_nodes(small_scan: Path, prior: str, s3: str) -> None:
    """Interrupted on the way, so that snapshots lie there, too."""
    settings = config("d3ip", prior)
    settings = settings.model_copy(
        update={"sampler": settings.sampler.model_copy(update={"num_steps": 2})}
    )  # three times as many steps
    whole = volume(small_scan, "whole", settings, **LOCAL)
    store, output = f"{s3}/scans/vol.zarr", f"{s3}/results/out.zarr"
    upload(small_scan, store)
    with simulated_cluster(2):
        stop, layout = Stop(3), {"num_workers": 2, "resilience": Resilience("2")}
        with pytest.raises(Interrupted, match="after step 3 of"):
            reconstruct(store, output, settings, should_stop=stop, on_event=stop.events.append, **layout)
        assert any(key.startswith("out.zarr.snapshots/") for key in paths.list_keys(f"{s3}/results"))
        made = reconstruct(store, output, settings, **layout)
    assert made.num_workers == 2
    result = open_result(output)
    assert np.array_equal(result.read(0, result.shape[0]), whole)
    assert load_file(output, "adapter.safetensors")
    assert {key.split("/")[0] for key in paths.list_keys(f"{s3}/results")} == {"out.zarr"}
