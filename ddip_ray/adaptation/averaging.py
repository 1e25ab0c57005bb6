"""The mean of the adapters of several volumes, as an adapter that records their names."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from ddip_ray.errors import InputError

_UP, _DOWN, _VOLUMES = ".lora_up", ".lora_down", "volumes"
_ROUNDING = 1e-9  # singular values below this share of the largest count as zero


def volumes_of(mean: bytes) -> tuple[str, ...]:
    """Names of the volumes that a mean adapter is made of, in the order in which they came."""
    return tuple(json.loads(_metadata(mean)[_VOLUMES]))


def mean_with(mean: bytes | None, own: bytes, volume: str, name: str = "adapter") -> bytes:
    """The mean adapter with one volume more.

    It is one outer step of Reptile (Nichol et al., 2018, 1803.02999) with rate 1/n for the n-th volume. The
    changes of the weights are averaged, and cut back to the rank by their largest singular values, because
    factors trained apart mean nothing together. The two factors share each singular value evenly. Where there
    is no change the up factor is zero and the down factor of length one, about as in `Adapter.create`, so
    that a change can be learned.

    Args:
        mean: the mean so far, as this function wrote it; None before the first volume.
        own: the volume's adapter, as `Adapter.to_bytes` wrote it.
        volume: name of the volume.
        name: what to call the mean in messages.

    Raises:
        InputError: the adapters differ in prior, rank or scale.
    """
    from safetensors.torch import load, save

    new_metadata, new = _metadata(own), load(own)
    if mean is None:
        first: bytes = save(new, new_metadata | {_VOLUMES: json.dumps([volume])})
        return first
    volumes, old = [*volumes_of(mean), volume], load(mean)
    mean_metadata = {key: value for key, value in _metadata(mean).items() if key != _VOLUMES}
    if mean_metadata != new_metadata:
        keys = sorted(mean_metadata | new_metadata)
        different = ", ".join(key for key in keys if mean_metadata.get(key) != new_metadata.get(key))
        raise InputError(f"{name}: the adapter of {volume} cannot be averaged with it: other {different}")
    moved: dict[str, Tensor] = {}
    for key in (key.removesuffix(_UP) for key in old if key.endswith(_UP)):
        before, learned = (one[key + _UP].double() @ one[key + _DOWN].double() for one in (old, new))
        u, s, vh = torch.linalg.svd(before + (learned - before) / len(volumes), full_matrices=False)
        rank = len(old[key + _DOWN])
        changed = s[:rank] > _ROUNDING * s[0]
        root = torch.where(changed, s[:rank].sqrt(), 0.0)
        moved[key + _UP] = (u[:, :rank] * root).float().contiguous()
        moved[key + _DOWN] = (torch.where(changed, root, 1.0)[:, None] * vh[:rank]).float().contiguous()
    metadata = mean_metadata | {_VOLUMES: json.dumps(volumes)}
    data: bytes = save({key: moved[key] for key in old}, metadata)
    return data


def _metadata(adapter: bytes) -> dict[str, str]:
    header = json.loads(adapter[8 : 8 + int.from_bytes(adapter[:8], "little")])
    found: dict[str, str] = header["__metadata__"]
    return found
