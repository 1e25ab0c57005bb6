"""Masks, trajectories and maps of an MRI scan of larger pixels that is as undersampled as a given one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ddip_ray.errors import InputError
from ddip_ray.operators.mri.trajectory import fewer_readouts

_SEED = 0  # of the choice among points


def check_downsampling(downsampling: int, image_shape: tuple[int, ...]) -> None:
    """Raise InputError unless slices of ``image_shape`` have at least one of the larger pixels."""
    largest = min(image_shape)
    if not 1 <= downsampling <= largest:
        ny, nx = image_shape
        raise InputError(
            f"downsampling is {downsampling}, expected 1 to {largest} for slices of {ny} x {nx} pixels"
        )


def coarse_maps(maps: Tensor, k: int) -> Tensor:
    """Return sensitivity maps (coil, y, x) averaged over k x k pixels and normalised."""
    pooled = torch.complex(*(functional.avg_pool2d(part, k) for part in (maps.real, maps.imag)))
    total = pooled.abs().square().sum(0).sqrt()
    return pooled / torch.where(total > 0, total, 1.0)


def coarse_mask(mask: Tensor, k: int) -> Tensor:
    """Return a mask for pixels k times larger that takes the same share of samples.

    Line patterns: every k-th line is kept and its frequency divided by k, so that the spacing in samples
    stays. Point patterns: one random sample from each block of k x k. Rows and columns that fill no whole
    pixel are dropped.

    Args:
        mask: 1 where a sample is taken and 0 elsewhere, (ky, kx).
        k: side of the larger pixels in pixels.
    """
    ny, nx = mask.shape
    for lines, size, axis in ((mask[:, 0], ny, 1), (mask[0], nx, 0)):
        if bool((mask == lines.unsqueeze(axis)).all()):
            return _coarse_lines(lines, size // k, k).unsqueeze(axis).expand(ny // k, nx // k).clone()
    # The small k-space's sample q stands for the large one's k q to k q + k − 1, counted from the centre.
    rows, columns = (k * (torch.arange(n // k) - n // k // 2) + n // 2 for n in (ny, nx))
    generator = torch.Generator().manual_seed(_SEED)
    down, right = torch.randint(k, (2, ny // k, nx // k), generator=generator)
    chosen = (rows[:, None] + down).clamp(0, ny - 1), (columns + right).clamp(0, nx - 1)
    return mask[chosen[0].to(mask.device), chosen[1].to(mask.device)]


def coarse_trajectory(trajectory: Tensor, mask: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the readouts, and the mask of their samples, that pixels k times larger are measured by.

    Samples within the frequencies that the larger pixels resolve are kept, and the number of readouts
    (`fewer_readouts`) that gives the same number of samples per pixel. For spokes this is one in k. Spirals
    have fewer samples there and keep nearly all their arms.

    Args:
        trajectory: cycles per pixel, (readout, sample, 2).
        mask: 1 where a sample is taken and 0 elsewhere, (readout, sample).
        k: side of the larger pixels in pixels.

    Returns:
        Trajectory (readout, sample, 2) in cycles per larger pixel, and mask (readout, sample), boolean.
    """
    path = k * trajectory
    farthest = trajectory.norm(dim=-1).max() + 1e-6  # a disc of frequencies stays one
    within = (path.abs() <= 0.5).all(-1) & (path.norm(dim=-1) <= farthest)
    within = within & (mask > 0).to(within.device)
    wanted = float(mask.sum()) / k**2
    kept = min(len(path), max(1, round(wanted / max(1.0, float(within.sum(1).double().mean())))))
    chosen = torch.from_numpy(fewer_readouts(path.cpu().numpy(), kept))
    return path[chosen], within[chosen]


def _coarse_lines(lines: Tensor, size: int, k: int) -> Tensor:
    """Return 0 or 1 for each of the ``size`` lines."""
    taken = torch.nonzero(lines)[:, 0] - len(lines) // 2
    first = int((taken < 0).sum()) % k  # so that the line at the centre stays
    places = taken[first::k].div(k, rounding_mode="floor") + size // 2
    small = torch.zeros(size, dtype=lines.dtype, device=lines.device)
    small[places[(places >= 0) & (places < size)]] = 1
    return small
