"""The mean of the adapters of several volumes, as an adapter that knows them."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from ddip_ray.errors import InputError

_UP, _DOWN, _VOLUMES = ".lora_up", ".lora_down", "volumes"
_ROUNDING = 1e-9  # of singular values, against the largest: what is less is none


def volumes_of(mean: bytes) -> tuple[str, ...]:
    """Which volumes a mean is of, in the order in which they came."""
    return tuple(json.loads(_metadata(mean)[_VOLUMES]))


def mean_with(mean: bytes | None, own: bytes, volume: str, name: str = "adapter") -> bytes:
    """The mean of one volume more, ``own`` being what `Adapter.to_bytes` made of it; None: of this one.

    One outer step of Reptile (1803.02999) of 1/n for the n-th volume. It is the changes of the weights that
    are averaged, and cut back to the rank by their largest singular values, as factors learned apart mean
    nothing together. The two factors share each singular value evenly. Where there is no change the up factor
    is zero and the down factor of length one, about as in `Adapter.create`, so that one can be learned.

    Raises:
        InputError: of another prior, another rank or another scale than the mean.
    """
    from safetensors.torch import load, save

    its, b = _metadata(own), load(own)
    if mean is None:
        first: bytes = save(b, its | {_VOLUMES: json.dumps([volume])})
        return first
    volumes, a = [*volumes_of(mean), volume], load(mean)
    mine = {key: value for key, value in _metadata(mean).items() if key != _VOLUMES}
    if mine != its:
        different = ", ".join(key for key in sorted(mine | its) if mine.get(key) != its.get(key))
        raise InputError(f"{name}: the adapter of {volume} cannot be averaged with it: other {different}")
    moved: dict[str, Tensor] = {}
    for key in (key.removesuffix(_UP) for key in a if key.endswith(_UP)):
        before, learned = (one[key + _UP].double() @ one[key + _DOWN].double() for one in (a, b))
        u, s, vh = torch.linalg.svd(before + (learned - before) / len(volumes), full_matrices=False)
        rank = len(a[key + _DOWN])
        changed = s[:rank] > _ROUNDING * s[0]
        root = torch.where(changed, s[:rank].sqrt(), 0.0)
        moved[key + _UP] = (u[:, :rank] * root).float().contiguous()
        moved[key + _DOWN] = (torch.where(changed, root, 1.0)[:, None] * vh[:rank]).float().contiguous()
    data: bytes = save({key: moved[key] for key in a}, mine | {_VOLUMES: json.dumps(volumes)})
    return data


def _metadata(adapter: bytes) -> dict[str, str]:
    header = json.loads(adapter[8 : 8 + int.from_bytes(adapter[:8], "little")])
    found: dict[str, str] = header["__metadata__"]
    return found
