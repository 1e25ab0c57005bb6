"""How much memory a worker needs, and so how many a volume does."""

from __future__ import annotations

import math
import os

from ddip_ray.engine.ray_cluster import connected
from ddip_ray.errors import InputError
from ddip_ray.io.acquisition import Acquisition
from ddip_ray.io.schema import MEASUREMENTS
from ddip_ray.solvers.settings import RunConfig

# Arrays of a slab that are alive at the peak, as (images, measurements): tests/benchmarks/bench_memory.py.
_HELD = {"fbp": (1, 7), "zero-filled": (1, 7), "cg": (7, 5), "tv": (42, 3)}
_HELD_BY_OTHERS = (16, 9)
_NETWORK = 2 * 2**30  # of a batch of slices through it, and of everything that does not grow with the slab

_ANSWER_TIMEOUT = 600.0  # seconds, as a cluster may have to start a node


def slice_bytes(acquisition: Acquisition, config: RunConfig) -> int:
    """What each slice of a slab adds to the peak of a worker's device."""
    geometry = acquisition.metadata.acquisition
    item = 8 if geometry.arrays[MEASUREMENTS].dtype == "complex64" else 4
    images, measurements = _HELD.get(config.method, _HELD_BY_OTHERS)
    pixels = images * math.prod(geometry.image_shape) + measurements * math.prod(geometry.measurement_shape)
    return item * pixels


def fewest_workers(acquisition: Acquisition, config: RunConfig, memory: int) -> int:
    """Workers, each with ``memory`` bytes, that a volume needs.

    Raises:
        InputError: not even a shard fits.
    """
    room = memory - (_NETWORK if config.uses_prior else 0)
    own = acquisition.shard_slices * slice_bytes(acquisition, config)
    if own > room:
        raise InputError(
            f"{acquisition.path}: {acquisition.shard_slices} slices need {own / 2**30:.1f} GiB, "
            f"a worker has {room / 2**30:.1f}"
        )
    num_shards = -(-acquisition.num_slices // acquisition.shard_slices)
    return -(-num_shards // (room // own))


def host_bytes() -> int:
    """Of this machine's memory, what is not in use."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def gpu_bytes() -> int:
    """Of a GPU: this machine's first or, if it has none, one of the cluster's."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    import ray

    with connected(1):
        return int(ray.get(ray.remote(num_gpus=1)(gpu_bytes).remote(), timeout=_ANSWER_TIMEOUT))
