"""MRI of fewer and larger pixels, as much undersampled as the given one, in the same way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ddip_ray.operators.sense import Sense

_SEED = 0  # of the choice among points


def downsampled_sense(operator: Sense, downsampling: int) -> Sense:
    """Pixels ``downsampling`` times larger over the same field of view, with as large a share of samples.

    Lines: every ``downsampling``-th one, at so many times smaller a frequency: as far apart as they were.
    Points: one of each block of as many by as many, drawn once. Rows and columns that fill no whole pixel are
    dropped. The operator must be alike for all slices.
    """
    if operator.num_slices is not None:
        raise ValueError("downsampled_sense: expected one mask and one set of maps for all slices")
    mask, maps, k = operator.sampling_mask[0, 0], operator.sensitivity_maps[0], downsampling
    pooled = torch.complex(*(functional.avg_pool2d(part, k) for part in (maps.real, maps.imag)))
    total = pooled.abs().square().sum(0).sqrt()
    return Sense(_downsampled_mask(mask, k), pooled / torch.where(total > 0, total, 1.0))


def _downsampled_mask(mask: Tensor, k: int) -> Tensor:
    ny, nx = mask.shape
    for lines, size, axis in ((mask[:, 0], ny, 1), (mask[0], nx, 0)):
        if bool((mask == lines.unsqueeze(axis)).all()):
            return _downsampled_lines(lines, size // k, k).unsqueeze(axis).expand(ny // k, nx // k).clone()
    # The small k-space's sample q stands for the large one's k q to k q + k − 1, counted from the centre.
    rows, columns = (k * (torch.arange(n // k) - n // k // 2) + n // 2 for n in (ny, nx))
    generator = torch.Generator().manual_seed(_SEED)
    down, right = torch.randint(k, (2, ny // k, nx // k), generator=generator)
    chosen = (rows[:, None] + down).clamp(0, ny - 1), (columns + right).clamp(0, nx - 1)
    return mask[chosen[0].to(mask.device), chosen[1].to(mask.device)]


def _downsampled_lines(lines: Tensor, size: int, k: int) -> Tensor:
    """0 or 1 of each line, (size,)."""
    taken = torch.nonzero(lines)[:, 0] - len(lines) // 2
    first = int((taken < 0).sum()) % k  # so that the line at the centre stays
    places = taken[first::k].div(k, rounding_mode="floor") + size // 2
    small = torch.zeros(size, dtype=lines.dtype, device=lines.device)
    small[places[(places >= 0) & (places < size)]] = 1
    return small
