"""Random-ellipse phantoms: the only images the default prior ever sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EllipseStatistics:
    """What the random phantoms look like. Lengths are in pixels or fractions of the image."""

    min_ellipses: int = 8
    max_ellipses: int = 110
    min_semi_axis: float = 0.8
    max_semi_axis: float = 0.5
    body_probability: float = 0.7
    max_edge_width: float = 2.5


def random_ellipses(
    num_images: int, size: int, generator: torch.Generator, statistics: EllipseStatistics | None = None
) -> Tensor:
    """Piecewise-constant images of overlapping ellipses with slightly soft edges.

    Most images have a body (one large ellipse on an empty background) filled with ellipses
    painted from large to small, sizes log-uniform, either replacing what is below or adding a
    contrast to it; the others fill the whole frame, like a crop out of a body.

    Returns:
        float32 (num_images, 1, size, size) in [0, 1].
    """
    s = statistics or EllipseStatistics()
    n, k = num_images, s.max_ellipses

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    coordinate = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    y, x = coordinate[None, :, None], coordinate[None, None, :]

    def coverage(centre: Tensor, axes: Tensor, angle: Tensor, width: Tensor) -> Tensor:
        """Fraction of each pixel inside the ellipse; signed distance to first order."""
        cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
        dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
        a, b = axes[:, 0, None, None], axes[:, 1, None, None]
        u, v = (cos * dx + sin * dy) / a, (cos * dy - sin * dx) / b
        radius = torch.sqrt(u * u + v * v).clamp_min(1e-6)
        slope = torch.sqrt((u / a) ** 2 + (v / b) ** 2).clamp_min(1e-6) / radius
        return (0.5 - (radius - 1) / (slope * width[:, None, None])).clamp(0, 1)

    has_body = torch.rand(n, generator=generator) < s.body_probability
    body_axes = uniform(0.25, 0.45, n, 2) * torch.exp(uniform(0, 1, n, 1)) * size
    body_centre = uniform(-1, 1, n, 2) * (body_axes - 0.35 * size).clamp_min(0.08 * size)
    body = coverage(body_centre, body_axes, uniform(0, math.pi, n), uniform(1, s.max_edge_width, n))
    body = torch.where(has_body[:, None, None], body, torch.ones_like(body))
    tissue = torch.rand(n, generator=generator)[:, None, None]
    background = torch.rand(n, generator=generator) * (torch.rand(n, generator=generator) < 0.15)
    image = tissue.expand(n, size, size).clone()

    # One log-uniform size range per image: some are coarse, some are full of fine detail.
    smallest = torch.exp(uniform(math.log(s.min_semi_axis), math.log(0.12 * size), n))
    largest = torch.exp(uniform(math.log(0.12 * size), math.log(s.max_semi_axis * size), n))
    log_size = (
        smallest.log()[:, None] + torch.rand(n, k, generator=generator) * (largest / smallest).log()[:, None]
    )
    radius = log_size.exp().sort(dim=1, descending=True).values
    aspect = torch.exp(uniform(-0.9, 0.9, n, k) / 2)
    centre = uniform(-0.55, 0.55, n, k, 2) * size
    angle = uniform(0, math.pi, n, k)
    width = uniform(1, s.max_edge_width, n)
    value = torch.rand(n, k, generator=generator)
    contrast = torch.randn(n, k, generator=generator) * uniform(0.02, 0.25, n, 1)
    replaces = torch.rand(n, k, generator=generator) < uniform(0, 1, n, 1)
    count = torch.exp(uniform(math.log(s.min_ellipses), math.log(k + 1), n)).long()
    chosen = torch.rand(n, k, generator=generator).argsort(dim=1) < count[:, None]

    for i in range(k):
        axes = torch.stack([radius[:, i] * aspect[:, i], radius[:, i] / aspect[:, i]], dim=1).clamp_min(0.6)
        inside = coverage(centre[:, i], axes, angle[:, i], width) * chosen[:, i, None, None]
        target = torch.where(
            replaces[:, i, None, None], value[:, i, None, None], image + contrast[:, i, None, None]
        )
        image = image + inside * (target - image)
    image = background[:, None, None] + body * (image - background[:, None, None])
    return image.clamp(0, 1)[:, None]
