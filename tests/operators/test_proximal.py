"""Proximal operators minimise what they say."""

from __future__ import annotations

import torch

from ddip_ray.numerics.proximal import soft_threshold


def test_soft_threshold_is_the_minimiser() -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    found = soft_threshold(x, 0.7)
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)[:, None]
    objective = 0.7 * grid.abs() + 0.5 * (grid - x) ** 2
    torch.testing.assert_close(found, grid[objective.argmin(0), 0], atol=1e-3, rtol=0)
    assert (found[(x.abs() <= 0.7)] == 0).all()


def test_soft_threshold_brings_points_no_further_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 5, 7, generator=generator)
    assert (soft_threshold(x, 0.3) - soft_threshold(y, 0.3)).norm() <= (x - y).norm()
