"""The memory that a worker needs, and the number of workers that a volume needs."""

from __future__ import annotations

import math
from functools import cache

from ddip_ray.config.settings import RunConfig
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.units import format_bytes

# Further arrays for a slice that is also reconstructed with some measurements held out.
VALIDATION_IMAGES = 7  # for each strength
VALIDATION_MEASUREMENTS = 2
_SCRATCH = 1.25  # factor for the scratch space of convolutions and of the allocator
_PROCESS = 700 * 2**20  # a CPU worker's process with its libraries (peaks in results/methods/*.json)


def slice_bytes(acquisition: Acquisition, config: RunConfig) -> int:
    """Bytes that each slice of a slab adds to the peak of a worker's device."""
    images, measurements = config.row.held_images, config.row.held_measurements
    share = validated_share(config, acquisition.num_slices)
    images += math.ceil(VALIDATION_IMAGES * len(config.validation.strengths) * share)
    measurements += math.ceil(VALIDATION_MEASUREMENTS * share)
    adapters = config.row.adapter_arrays_per_slice
    own = adapters * adapter_bytes(config) if adapters else 0
    return images * image_bytes(acquisition) + measurements * acquisition.slice_bytes + own


def validated_share(config: RunConfig, num_slices: int) -> float:
    """The share of the slices that are also reconstructed with some measurements held out (`Validation`)."""
    if config.adaptation.policy == "fixed":
        return 0.0
    return 1 / config.validation.spacing(num_slices, couples_slices=config.row.couples_slices)


def image_bytes(acquisition: Acquisition) -> int:
    """Bytes of one image slice."""
    pixels = math.prod(acquisition.metadata.acquisition.image_shape)
    return pixels * (8 if acquisition.is_complex else 4)


def worker_bytes(acquisition: Acquisition, config: RunConfig, num_slices: int, device: str) -> int:
    """Peak bytes of a worker's device.

    Args:
        acquisition: the acquisition to reconstruct.
        config: the method and its settings.
        num_slices: number of slices in the worker's slab.
        device: "cuda" or "cpu".
    """
    slab = num_slices * slice_bytes(acquisition, config)
    process = _PROCESS if device == "cpu" else 0
    return process + math.ceil(_SCRATCH * (network_bytes(acquisition, config, device) + slab))


def network_bytes(acquisition: Acquisition, config: RunConfig, device: str) -> int:
    """Peak bytes of the network and one micro-batch; 0 for methods without a network."""
    if not config.uses_prior:
        return 0
    shape, complex_ = acquisition.metadata.acquisition.image_shape, acquisition.is_complex
    batch = config.micro_batch or (8 if device == "cuda" else 1)
    if config.row.differentiates_sampling:
        return _call_bytes(config.prior, shape, batch, complex_, True)
    plain = _call_bytes(config.prior, shape, batch, complex_, False)
    if config.row.adapts:
        return max(plain, _call_bytes(config.prior, shape, 1, complex_, True))
    return plain


def adapter_bytes(config: RunConfig) -> int:
    """Bytes of one adapter for the configured prior and rank."""
    return _adapter_bytes(config.prior, config.adaptation.lora_rank)


@cache
def _adapter_bytes(prior_name: str, lora_rank: int) -> int:
    from ddip_ray.adaptation.lora import Adapter, LoraConfig
    from ddip_ray.prior.catalog import find_prior
    from ddip_ray.prior.load import load_prior

    network = load_prior(find_prior(prior_name)).network
    return 4 * Adapter.create(network, LoraConfig(lora_rank), seed=0).num_parameters()


@cache
def _call_bytes(
    prior_name: str, shape: tuple[int, int], batch: int, complex_: bool, with_gradient: bool
) -> int:
    from ddip_ray.prior.catalog import find_prior
    from ddip_ray.prior.load import load_prior
    from ddip_ray.prior.memory import call_bytes

    prior = load_prior(find_prior(prior_name))
    return call_bytes(prior, shape, batch, is_complex=complex_, with_gradient=with_gradient)


def fewest_workers(acquisition: Acquisition, config: RunConfig, memory: int, device: str) -> int:
    """The smallest number of workers that can hold a volume.

    Args:
        acquisition: the acquisition to reconstruct.
        config: the method and its settings.
        memory: bytes that each worker has.
        device: "cuda" or "cpu".

    Raises:
        InputError: not even one shard fits into ``memory``.
    """
    num_shards = -(-acquisition.num_slices // acquisition.shard_slices)
    for number in range(1, num_shards + 1):
        slices = -(-num_shards // number) * acquisition.shard_slices
        if worker_bytes(acquisition, config, slices, device) <= memory:
            return number
    least = worker_bytes(acquisition, config, acquisition.shard_slices, device)
    raise InputError(
        f"{acquisition.path}: {config.method} on {acquisition.shard_slices} slices, the fewest a worker can "
        f"have, needs {format_bytes(least)}; a worker has {format_bytes(memory)}",
        "Give each worker more memory: fewer workers on a machine, or larger GPUs.",
    )
