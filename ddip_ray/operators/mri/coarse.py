"""MRI of fewer and larger pixels, as much undersampled as the given one, in the same way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ddip_ray.operators.mri.cartesian import Sense
from ddip_ray.operators.mri.noncartesian import NonCartesianSense
from ddip_ray.operators.mri.trajectory import fewer_readouts

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
    return Sense(_downsampled_mask(mask, k), _downsampled_maps(maps, k))


def downsampled_noncartesian(operator: NonCartesianSense, downsampling: int) -> NonCartesianSense:
    """`downsampled_sense` along a trajectory: what lies within the larger pixels' reach of frequencies.

    As many samples a pixel are kept (`fewer_readouts`): of spokes so many times fewer, of spirals, which
    spend fewer samples within reach, hardly fewer.
    """
    if operator.num_slices is not None:
        raise ValueError(
            "downsampled_noncartesian: expected one trajectory and one set of maps for all slices"
        )
    k, path = downsampling, downsampling * operator.trajectory[0]
    farthest = operator.trajectory.norm(dim=-1).max() + 1e-6  # a disc of frequencies stays one
    within = (path.abs() <= 0.5).all(-1) & (path.norm(dim=-1) <= farthest)
    within = within & (operator.sampling_mask[0, 0] > 0).to(within.device)
    wanted = float(operator.sampling_mask.sum()) / k**2  # as many a pixel
    kept = min(len(path), max(1, round(wanted / max(1.0, float(within.sum(1).double().mean())))))
    chosen = torch.from_numpy(fewer_readouts(path.cpu().numpy(), kept))
    maps = _downsampled_maps(operator.sensitivity_maps[0], k)
    return NonCartesianSense(path[chosen], maps, within[chosen])


def _downsampled_maps(maps: Tensor, k: int) -> Tensor:
    pooled = torch.complex(*(functional.avg_pool2d(part, k) for part in (maps.real, maps.imag)))
    total = pooled.abs().square().sum(0).sqrt()
    return pooled / torch.where(total > 0, total, 1.0)


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
