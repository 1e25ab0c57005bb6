"""Random numbers keyed by (seed, purpose, step, slice): never by worker, batch or call order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.solvers.core.slab import Slab

_MASK = (1 << 64) - 1


def key(*parts: int) -> int:
    """Mix integers into one 63-bit seed (the finaliser of splitmix64 after each part)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def normal(shape: tuple[int, ...], *parts: int, is_complex: bool = False) -> Tensor:
    """A standard normal float32 tensor, drawn on the CPU from the generator keyed by ``parts``.

    With ``is_complex`` it is complex64, with real and imaginary part each standard normal.
    """
    generator = torch.Generator().manual_seed(key(*parts))
    if is_complex:
        return torch.view_as_complex(torch.randn((*shape, 2), generator=generator))
    return torch.randn(shape, generator=generator)


def slab_noise(
    slab: Slab,
    image_shape: tuple[int, ...],
    seed: int,
    step: int,
    *,
    anchor_distance: int = 1,
    is_complex: bool = False,
) -> Tensor:
    """Unit normal noise for the slices of a slab at one step: (z, y, x), as `normal` draws it.

    Args:
        slab: slices.
        image_shape: (y, x).
        seed: seed of the run.
        step: step of the trajectory.
        anchor_distance: distance between slices with noise of their own (anchors, at multiples of it in the
            volume). Between two anchors the noise is their spherical interpolation, so that neighbouring
            slices see similar noise and stay consistent (ISCS, ICLR 2026, 2602.04162). Every slice on its own
            is still unit normal.
        is_complex: whether the noise is complex.
    """
    if len(slab) == 0:
        return torch.empty(0, *image_shape, dtype=torch.complex64 if is_complex else torch.float32)

    def own(index: int) -> Tensor:
        return normal(image_shape, seed, step, index, is_complex=is_complex)

    if anchor_distance == 1:
        return torch.stack([own(z) for z in range(slab.start, slab.stop)])
    anchors: dict[int, Tensor] = {}

    def anchor(index: int) -> Tensor:
        if index not in anchors:
            anchors[index] = own(index)
        return anchors[index]

    slices = []
    for z in range(slab.start, slab.stop):
        below, offset = divmod(z, anchor_distance)
        angle = 0.5 * math.pi * offset / anchor_distance  # independent anchors are orthogonal on average
        if offset == 0:
            slices.append(anchor(below))
        else:
            slices.append(math.cos(angle) * anchor(below) + math.sin(angle) * anchor(below + 1))
    return torch.stack(slices)
