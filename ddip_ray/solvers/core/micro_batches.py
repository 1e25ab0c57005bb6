"""Slices through the network, as many at a time as its device's memory holds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ddip_ray.prior.denoiser import DiffusionPrior

OfSlices = Callable[[list[int]], tuple[Tensor, Tensor]]  # two rows for each of the slices of these indices


def in_batches(
    prior: DiffusionPrior, x: Tensor, of: OfSlices, micro_batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """What ``of`` returns for the slices of ``x: (z, y, x)``, so many at a time; two tensors like ``x``.

    Every call has exactly ``micro_batch`` slices, by default the prior's, and the last is filled up with
    copies: CPU convolutions round differently for different batch sizes and results must not depend on slabs.
    Where the GPU's memory is full the prior's number is halved, for good.

    Raises:
        torch.OutOfMemoryError: a single slice is too much, or so many as were asked for.
    """
    first, second = torch.empty_like(x), torch.empty_like(x)
    start = 0
    while start < len(x):
        size = micro_batch or prior.micro_batch
        own = list(range(start, min(start + size, len(x))))
        try:
            a, b = of(own + own[-1:] * (size - len(own)))
        except torch.OutOfMemoryError:
            if size == 1 or micro_batch is not None:
                raise
            prior.micro_batch = size // 2
        else:
            first[own], second[own] = a[: len(own)], b[: len(own)]
            start += len(own)
            continue
        torch.cuda.empty_cache()  # here, where the error no longer holds on to what did not fit
    return first, second
