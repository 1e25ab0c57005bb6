"""What jobs of clusters reconstruct: a few slices of a real abdomen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

SETTINGS = {"method": "dds", "sampler": {"num_steps": 24, "final_cg_iterations": 20}}
SLICES = "50:54"


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: vol.zarr, run.yaml, and local.zarr, what `reconstruct` makes of them in one process."""
    from ddip_ray.config.load import load_config
    from ddip_ray.engine.run import reconstruct
    from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate

    data = Path(__file__).parents[3] / "shared" / "data" / "ct_abdomen_totalseg" / "ct_abdomen_128.npz"
    if not data.exists():
        pytest.skip("../shared/data absent: ct_abdomen_totalseg")
    folder = tmp_path_factory.mktemp("a scan")
    with np.load(data) as file:
        volume = file["volume"]
    np.save(folder / "ct.npy", volume.reshape(len(volume), 64, 2, 64, 2).mean(axis=(2, 4)).astype(np.float32))
    simulate(str(folder / "ct.npy"), str(folder / "vol.zarr"), Scan(30, window=(-1000, 1000), slices=SLICES))
    (folder / "run.yaml").write_text(yaml.safe_dump(SETTINGS))
    config = load_config(str(folder / "run.yaml"), {})
    reconstruct(str(folder / "vol.zarr"), str(folder / "local.zarr"), config, executor="local")
    return folder
