"""Views that judge: which ones a reconstruction never sees, and how far it is from them."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.operators.filtered_backprojection import ramp_filter
from ddip_ray.operators.inner_product import slice_dot
from ddip_ray.solvers.slab import Slab


def held_out_views(slab: Slab, num_views: int, every: int) -> Tensor:
    """(z, view, 1) float32: 1 for every ``every``-th view, starting at another view in each slice, else 0.

    Raises:
        InputError: too few views to leave some for both sides of every slice.
    """
    if num_views < 4:
        raise InputError(
            f"{num_views} views are too few to hold some out",
            "Set adaptation.hold_out_every to 0, or use --method dds.",
        )
    if not 2 <= every <= num_views // 2:
        raise InputError(
            f"adaptation.hold_out_every is {every}, expected 2 to {num_views // 2} for {num_views} views",
            "Set it to 0 to judge by the views that were used, or use --method dds.",
        )
    view, z = torch.arange(num_views), torch.arange(slab.start, slab.stop)
    # Neighbouring slices are alike: steps of two keep their held-out views apart, where they reach all.
    stride = 1 + every % 2
    return (view % every == (stride * z[:, None]) % every).float()[..., None]


def relative_misfit(y: Tensor, estimate: Tensor, judged: Tensor) -> Tensor:
    """⟨r, R r⟩/⟨y, R y⟩ per slice, (z,), with r = estimate − y on the judged views and R the ramp filter.

    The ramp makes it a distance between images, else low frequencies would decide alone.
    """
    misfit, target = judged * (estimate - y), judged * y
    return slice_dot(misfit, _ramp(misfit)) / slice_dot(target, _ramp(target))


def _ramp(y: Tensor) -> Tensor:
    return ramp_filter(y, 1.0, "hann")
