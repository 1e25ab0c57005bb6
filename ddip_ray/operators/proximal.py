"""Proximal operators: argmin over d of a penalty and half the squared distance."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_threshold(x: Tensor, threshold: float) -> Tensor:
    """argmin_d threshold · ‖d‖₁ + ½ ‖d − x‖²: every entry moved towards zero, at most to it. Any shape."""
    return torch.sgn(x) * (x.abs() - threshold).clamp_min(0)


def project_to_ball(x: Tensor, radius: float) -> Tensor:
    """The nearest to ``x`` of which no entry is larger than ``radius``, in modulus."""
    if x.is_complex():
        return x / (x.abs() / radius).clamp_min(1.0)
    return x.clamp(-radius, radius)
