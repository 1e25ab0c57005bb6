"""Images of coils, times their sensitivities or combined by them: the same bits of a slice in any company."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddip_ray.operators.mri import coil_kernel


def times(a: Tensor, b: Tensor) -> Tensor:
    """a · b, (z, coil, y, x), of which either may have one slice or one coil for all."""
    if a.device.type != "cpu":
        return a * b
    out = _flat(coil_kernel.times, a, b)
    return out.reshape(*out.shape[:2], *a.shape[-2:])


def combined(maps: Tensor, parts: Tensor) -> Tensor:
    """Σ over coils of conj(maps) · parts, (z, coil, y, x) to (z, y, x)."""
    if parts.device.type != "cpu":
        return (maps.conj() * parts).sum(1)
    return _flat(coil_kernel.combined, maps, parts).reshape(-1, *parts.shape[-2:])


def _flat(kernel: Callable[[Any, Any], Any], a: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(kernel(*(t.resolve_conj().flatten(2).contiguous().numpy() for t in (a, b))))
