"""Proximal operators: argmin over d of a penalty and half the squared distance."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_threshold(x: Tensor, threshold: float) -> Tensor:
    """argmin_d threshold · ‖d‖₁ + ½ ‖d − x‖²: every entry moved towards zero, at most to it. Any shape."""
    return torch.sign(x) * (x.abs() - threshold).clamp_min(0)
