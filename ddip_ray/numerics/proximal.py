"""Proximal operators, which minimise a penalty plus half the squared distance."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.numerics.inner_product import modulus


def soft_threshold(x: Tensor, threshold: float) -> Tensor:
    """Return argmin_d threshold · ‖d‖₁ + ½ ‖d − x‖², each entry's modulus less ``threshold``, at least 0."""
    if x.is_complex():
        size = modulus(x)
        return x * ((size - threshold).clamp_min(0) / torch.where(size > 0, size, 1.0))
    return torch.sign(x) * (x.abs() - threshold).clamp_min(0)


def project_to_ball(x: Tensor, radius: float) -> Tensor:
    """Return the tensor nearest to ``x`` whose entries have at most the modulus ``radius``."""
    if x.is_complex():
        return x * (modulus(x) / radius).clamp_min(1.0).reciprocal()
    return x.clamp(-radius, radius)
