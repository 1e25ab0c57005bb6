"""What the engine's tests share: an untrained prior, and one Ray cluster a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained prior: layouts must agree whatever the weights."""
    import torch

    from ddip_ray.prior.network import NetworkConfig, build_network, save_prior
    from ddip_ray.prior.training import SCHEDULE

    folder = tmp_path_factory.mktemp("prior") / "tiny"
    torch.manual_seed(0)
    network = build_network(NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8))
    save_prior(folder, network, SCHEDULE, {"image_range": [-1.0, 1.0]})
    return str(folder)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One cluster for the module: starting Ray takes seconds."""
    import os

    from ddip_ray.engine.ray_executor import QUIET

    os.environ.update(QUIET)
    import ray

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield
    ray.shutdown()
