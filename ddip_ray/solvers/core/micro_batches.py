"""Slices through the network, as many at a time as its device's memory holds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ddip_ray.prior.denoiser import Prior

SliceFunction = Callable[[list[int]], tuple[Tensor, Tensor]]  # indices of slices -> two rows for each of them


def in_micro_batches(prior: Prior, x: Tensor, function: SliceFunction) -> tuple[Tensor, Tensor]:
    """The two tensors that ``function`` returns for the slices of ``x: (z, y, x)``, each shaped like ``x``.

    Every call has exactly ``prior.micro_batch`` slices, and the last is filled up with copies: CPU
    convolutions round differently for different batch sizes, and results must not depend on slabs.
    Where the GPU's memory is full, ``prior.micro_batch`` is halved, for good.

    Raises:
        torch.OutOfMemoryError: a single slice does not fit.
    """
    first, second = torch.empty_like(x), torch.empty_like(x)
    start = 0
    while start < len(x):
        size = prior.micro_batch
        rows = list(range(start, min(start + size, len(x))))
        try:
            a, b = function(rows + rows[-1:] * (size - len(rows)))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            prior.micro_batch = size // 2
        else:
            first[rows], second[rows] = a[: len(rows)], b[: len(rows)]
            start += len(rows)
            continue
        torch.cuda.empty_cache()  # here, where the error no longer holds on to what did not fit
    return first, second
