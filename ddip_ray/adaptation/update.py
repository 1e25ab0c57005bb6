"""One optimiser step of a shared adapter from slices spread over the volume and over workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.numerics.threads import one_thread


def draw_slices(num_slices: int, num_drawn: int, generator: torch.Generator) -> list[int]:
    """One slice out of each of ``num_drawn`` equal parts of the volume (fewer if it is thinner).

    The draw is stratified, so that every part is seen at each step and workers get equal shares; it is made
    over the volume, so that it does not depend on the number of workers.
    """
    count = min(num_drawn, num_slices)
    edges = [i * num_slices // count for i in range(count + 1)]
    return [
        int(torch.randint(low, high, (1,), generator=generator)) for low, high in itertools.pairwise(edges)
    ]


def draw_block(num_slices: int, num_drawn: int, generator: torch.Generator) -> list[int]:
    """A block of ``num_drawn`` neighbours, anywhere in the volume (all of it if it is thinner)."""
    count = min(num_drawn, num_slices)
    first = int(torch.randint(0, num_slices - count + 1, (1,), generator=generator))
    return list(range(first, first + count))


def adapt_step(
    adapter: Adapter,
    optimizer: torch.optim.Optimizer,
    slices: Sequence[int],
    slice_loss: Callable[[int], Tensor | None],
    all_reduce: Callable[[Tensor], Tensor],
) -> float:
    """Minimise the mean of ``slice_loss`` over ``slices`` by one optimiser step; returns that mean.

    Args:
        adapter: what is trained.
        optimizer: optimiser of its parameters.
        slices: indices of slices in the volume.
        slice_loss: loss of a slice; None where another worker holds it.
        all_reduce: sum over the workers, in place.
    """
    parameters = list(adapter.parameters.values())
    size = adapter.num_parameters()

    def gradient_and_loss(z: int) -> Tensor | None:
        with one_thread():
            loss = slice_loss(z)
            if loss is None:
                return None
            gradients = torch.autograd.grad(loss, parameters)
        return torch.cat([*(g.reshape(-1) for g in gradients), loss.detach().reshape(1)])

    mean = mean_over_slices(slices, gradient_and_loss, parameters[0].new_zeros(size + 1), all_reduce)
    # In units of its own size, so that an update counts alike however small the loss has become. A norm
    # in float64: its rounding, which does depend on threads, is far below a float32.
    size_of_it = mean[:size].double().square().mean().sqrt().float()
    mean[:size] /= torch.where(size_of_it > 0, size_of_it, 1.0)
    flat = torch.split(mean[:size], [p.numel() for p in parameters])
    for parameter, gradient in zip(parameters, flat, strict=True):
        parameter.grad = gradient.reshape(parameter.shape)
    optimizer.step()
    optimizer.zero_grad()  # as large as the adapter, of which there may be one for each slice
    return float(mean[size])


def mean_over_slices(
    slices: Sequence[int],
    of_slice: Callable[[int], Tensor | None],
    zeros: Tensor,
    all_reduce: Callable[[Tensor], Tensor],
) -> Tensor:
    """The mean over slices of a vector that only the slice's worker knows.

    The vectors are summed in slice order, so the mean does not depend on how slices are spread over workers.

    Args:
        slices: indices of slices in the volume.
        of_slice: vector of a slice; None where another worker holds it.
        zeros: zeros of the vectors' shape.
        all_reduce: sum over the workers, in place.
    """
    gathered = zeros.detach().expand(len(slices), -1).clone()
    for row, z in enumerate(slices):
        own = of_slice(z)
        if own is not None:
            gathered[row] = own
    all_reduce(gathered)
    mean = gathered[0].clone()
    for other in gathered[1:]:
        mean += other
    return mean / len(slices)
