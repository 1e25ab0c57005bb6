"""The adapter that a run starts from, as its configuration names it."""

from __future__ import annotations

from pathlib import Path

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import RunConfig
from ddip_ray.errors import InputError
from ddip_ray.prior.denoiser import DiffusionPrior


def read_adapter(config: RunConfig) -> bytes | None:
    """The contents of the configured adapter file; None without one.

    Raises:
        InputError: the file cannot be read.
    """
    if config.adapter is None:
        return None
    try:
        return Path(config.adapter).read_bytes()
    except OSError as error:
        raise InputError(f"adapter {config.adapter} cannot be read ({error})") from error


def load_adapter(config: RunConfig, prior: DiffusionPrior) -> Adapter | None:
    """The configured adapter for ``prior``; None without one.

    Raises:
        InputError: it cannot be read, or does not fit the prior or the configured rank and scale.
    """
    data = read_adapter(config)
    if data is None:
        return None
    adapter = Adapter.from_bytes(data, prior.network, prior.digest, name=f"adapter {config.adapter}")
    found, asked = adapter.config, config.adaptation
    if (found.rank, found.scale) != (asked.lora_rank, asked.lora_scale):
        raise InputError(
            f"adapter {config.adapter} has lora_rank {found.rank} and lora_scale {found.scale:g}, "
            f"adaptation asks for {asked.lora_rank} and {asked.lora_scale:g}",
            f"Set adaptation: {{lora_rank: {found.rank}, lora_scale: {found.scale:g}}} in the --config",
        )
    return adapter
