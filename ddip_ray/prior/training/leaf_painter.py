"""Leaves of many shapes, painted one over the other with soft edges."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ddip_ray.numerics.jit import compiled

Array = NDArray[np.float64]

# The columns of a leaf, lengths in pixels. "Aspect" is the ratio of its axes, "kind" one of the shapes below.
# A shell has a "rim" of that thickness (0: none) and value. The texture number "field" has the amplitude
# "tone". A leaf "adds" to what is below (1) or covers it (0). The last twelve numbers describe its outline;
# what they mean, the function of its shape says.
CY, CX, RADIUS, ASPECT, ANGLE, KIND, VALUE, SLOPE_Y, SLOPE_X, RIM, RIM_VALUE, TONE, FIELD, ADDS = range(14)
OUTLINE = 14
NUM_COLUMNS = OUTLINE + 12
SUPERELLIPSE, POLYGON, STAR, ARC = range(4)

_WIDEST = 1.6  # no leaf but an arc reaches farther from its middle than so many radii


@compiled
def paint_leaves(image: Array, leaves: Array, fields: Array, edge_width: float) -> None:
    """Paint leaves in order into ``image`` in place.

    Args:
        image: (y, x) grey values.
        leaves: (leaf, `NUM_COLUMNS`) in the order in which they are painted.
        fields: (field, y, x) textures of variance 1, as large as the image.
        edge_width: pixels over which coverage falls from 1 to 0.
    """
    ny, nx = image.shape
    for k in range(len(leaves)):
        leaf = leaves[k]
        kind, outline, field = int(leaf[KIND]), leaf[OUTLINE:], fields[int(leaf[FIELD])]
        cos, sin, stretch = math.cos(leaf[ANGLE]), math.sin(leaf[ANGLE]), math.sqrt(leaf[ASPECT])
        outermost = leaf[RADIUS] + outline[0] if kind == ARC else _WIDEST * leaf[RADIUS]
        reach = outermost + 2 * edge_width
        a, b = reach * max(stretch, 1.0), reach * max(1 / stretch, 1.0)
        extent_x, extent_y = math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)
        for y in range(max(0, math.floor(leaf[CY] - extent_y)), min(ny, math.ceil(leaf[CY] + extent_y) + 1)):
            for x in range(
                max(0, math.floor(leaf[CX] - extent_x)), min(nx, math.ceil(leaf[CX] + extent_x) + 1)
            ):
                dy, dx = y - leaf[CY], x - leaf[CX]
                u, v = (cos * dx + sin * dy) / stretch, (cos * dy - sin * dx) * stretch
                if u * u + v * v > reach * reach:
                    continue
                depth = -_distance(u, v, leaf[RADIUS], kind, outline)
                if stretch != 1.0:  # back to pixels, exact along the axes
                    squared = max(u * u + v * v, 1e-9)
                    depth *= math.sqrt(squared / ((u / stretch) ** 2 + (v * stretch) ** 2))
                coverage = min(0.5 + depth / edge_width, 1.0)
                if coverage <= 0:
                    continue
                target = leaf[VALUE] + leaf[SLOPE_Y] * dy + leaf[SLOPE_X] * dx + leaf[TONE] * field[y, x]
                if leaf[RIM] > 0:
                    core = min(max(0.5 + (depth - leaf[RIM]) / edge_width, 0.0), 1.0)
                    target = leaf[RIM_VALUE] + core * (target - leaf[RIM_VALUE])
                if leaf[ADDS] == 0:
                    target -= image[y, x]
                image[y, x] += coverage * target


@compiled
def _distance(u: float, v: float, radius: float, kind: int, outline: Array) -> float:
    """The distance of a point to the outline of a leaf at the origin, to first order; negative inside."""
    if kind == SUPERELLIPSE:
        return _to_superellipse(u, v, radius, outline)
    if kind == POLYGON:
        return _to_polygon(u, v, radius, outline)
    if kind == STAR:
        return _to_star(u, v, radius, outline)
    return _to_arc(u, v, radius, outline)


@compiled
def _to_superellipse(u: float, v: float, radius: float, outline: Array) -> float:
    """``outline[0]`` is the exponent: 2 for a circle; less has corners on the axes, more between them."""
    p = outline[0]
    if p == 2.0:
        return math.sqrt(u * u + v * v) - radius
    larger, smaller = max(abs(u), abs(v)), min(abs(u), abs(v))
    if larger < 1e-9:
        return -radius
    norm: float = larger * (1 + (smaller / larger) ** p) ** (1 / p)
    return norm - radius


@compiled
def _to_polygon(u: float, v: float, radius: float, outline: Array) -> float:
    """At most six sides: each outward normal over its distance from the middle in radii, x then y."""
    gauge, gradient = 0.0, 1.0
    for i in range(6):
        g = outline[i] * u + outline[6 + i] * v
        if g > gauge:
            gauge, gradient = g, math.hypot(outline[i], outline[6 + i])
    return (gauge - radius) / gradient if gauge > 0 else -radius


@compiled
def _to_star(u: float, v: float, radius: float, outline: Array) -> float:
    """The radius is a Fourier series of the angle around 1: six cosines, six sines."""
    r = math.sqrt(u * u + v * v)
    cos, sin = (u / r, v / r) if r > 1e-9 else (1.0, 0.0)
    c, s, bound, turn = 1.0, 0.0, 1.0, 0.0
    for i in range(6):
        c, s = c * cos - s * sin, s * cos + c * sin
        bound += outline[i] * c + outline[6 + i] * s
        turn += (i + 1) * (outline[6 + i] * c - outline[i] * s)
    bound = max(bound, 0.15)
    return (r - bound * radius) / math.sqrt(1 + (turn / bound) ** 2)


@compiled
def _to_arc(u: float, v: float, radius: float, outline: Array) -> float:
    """A strip along the circle, of half width ``outline[0]`` and ``outline[1]`` radians to each side."""
    half_width: float = outline[0]
    if abs(math.atan2(v, u)) <= outline[1]:
        return abs(math.sqrt(u * u + v * v) - radius) - half_width
    du, dv = u - radius * math.cos(outline[1]), abs(v) - radius * math.sin(outline[1])
    return math.sqrt(du * du + dv * dv) - half_width
