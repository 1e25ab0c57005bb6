"""Bytes that a network call needs, found without making the call."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddip_ray.prior.denoiser import DiffusionPrior


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


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all tensors that operations within the context have made and that live; and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: dict[int, weakref.ref[Any]] = {}
        self.now: int = 0
        self.peak: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage: torch.UntypedStorage) -> None:
        """Count ``storage`` until it is freed."""
        key, size = storage._cdata, storage.nbytes()
        if key in self.storages:
            return

        def gone(_: Any) -> None:
            del self.storages[key]
            self.now -= size

        self.storages[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
