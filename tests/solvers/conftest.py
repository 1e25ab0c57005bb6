"""What the tests of several methods share."""

from __future__ import annotations

import pytest
import torch

from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.network import NetworkConfig, build_network
from ddip_ray.prior.schedule import NoiseSchedule


@pytest.fixture(scope="module")
def prior() -> DiffusionPrior:
    torch.manual_seed(0)
    config = NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8)
    return DiffusionPrior(
        build_network(config), NoiseSchedule.linear(), "v_prediction", digest="0" * 64, micro_batch=2
    )
