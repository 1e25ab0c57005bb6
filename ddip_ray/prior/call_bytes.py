"""What a call of the network needs, found without making it."""

from __future__ import annotations

import copy

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ddip_ray.live_bytes import LiveBytes
from ddip_ray.prior.network import DiffusionPrior


def call_bytes(
    prior: DiffusionPrior,
    image_shape: tuple[int, int],
    num_slices: int,
    *,
    is_complex: bool = False,
    with_gradient: bool = False,
) -> int:
    """Bytes on the device at the peak of denoising ``num_slices`` slices (y, x), weights included.

    The call is made with torch's fake tensors, which have shapes and no contents. Scratch memory of
    convolutions comes on top.
    """
    weights: int = sum(p.numel() * p.element_size() for p in prior.network.parameters())
    dtype = torch.complex64 if is_complex else torch.float32
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    shadow = copy.copy(prior)
    shadow.schedule = _AnySchedule()  # type: ignore[assignment]
    with fakes, LiveBytes() as live, torch.set_grad_enabled(with_gradient):
        x = torch.empty(num_slices, *image_shape, dtype=dtype, requires_grad=with_gradient)
        x0_hat, _ = shadow.denoise(x, 1)
        if with_gradient:
            torch.autograd.grad(x0_hat.abs().sum(), x)
    return int(weights + live.peak)


class _AnySchedule:
    """Fake tensors cannot be looked into, and memory does not depend on the noise."""

    def at(self, t: int) -> float:
        return 0.5
