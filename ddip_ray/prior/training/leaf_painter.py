"""Leaves of many shapes, painted one over the other with soft edges."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ddip_ray.compiled import compiled

Array = NDArray[np.float64]

# One row a leaf, lengths in pixels. "Aspect" is the ratio of the axes; "rim" the thickness of a shell of value "rim
# value" (0: none); "tone" the amplitude of the texture, "field" which texture; a leaf "adds" to what is below
# (1) or covers it (0). What the three parameters and twelve numbers of a shape mean, its branch in `_distance` says.
CY, CX, RADIUS, ASPECT, ANGLE, KIND, VALUE, SLOPE_Y, SLOPE_X, RIM, RIM_VALUE, TONE, FIELD, ADDS = range(14)
SHAPE = 14
NUM_COLUMNS = SHAPE + 12
SUPERELLIPSE, POLYGON, STAR, ARC = range(4)


@compiled
def _distance(u: float, v: float, radius: float, kind: int, shape: Array) -> float:
    """The signed distance (to first order, inside negative) of a point to the outline of a leaf at the origin."""
    r = math.sqrt(u * u + v * v)
    if kind == SUPERELLIPSE:  # shape[0]: the exponent; 2 is an ellipse, more has corners
        p = shape[0]
        if p == 2.0:
            return r - radius
        a, b = abs(u), abs(v)
        m = max(a, b)
        if m < 1e-9:
            return -radius
        return m * ((a / m) ** p + (b / m) ** p) ** (1 / p) - radius
    if kind == POLYGON:  # at most six sides: outward normals over their distance from the middle, x then y
        gauge, gradient = 0.0, 1.0
        for i in range(6):
            g = shape[i] * u + shape[6 + i] * v
            if g > gauge:
                gauge, gradient = g, math.hypot(shape[i], shape[6 + i])
        return (gauge - radius) / gradient if gauge > 0 else -radius
    if kind == STAR:  # the outline is a Fourier series of the angle: six cosines, six sines
        cos, sin = (u / r, v / r) if r > 1e-9 else (1.0, 0.0)
        c, s, bound, turn = 1.0, 0.0, 1.0, 0.0
        for i in range(6):
            c, s = c * cos - s * sin, s * cos + c * sin
            bound += shape[i] * c + shape[6 + i] * s
            turn += (i + 1) * (shape[6 + i] * c - shape[i] * s)
        bound = max(bound, 0.15)
        return (r - bound * radius) / math.sqrt(1 + (turn / bound) ** 2)
    # ARC: a strip of half width shape[0] along a circle, shape[1] radians to each side
    theta = abs(math.atan2(v, u))
    if theta <= shape[1]:
        return abs(r - radius) - shape[0]
    du, dv = u - radius * math.cos(shape[1]), abs(v) - radius * math.sin(shape[1])
    return math.sqrt(du * du + dv * dv) - shape[0]


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
        row = leaves[k]
        cos, sin = math.cos(row[ANGLE]), math.sin(row[ANGLE])
        # Radii of the ellipse around the shape: 1.6 times the radius holds every shape that is drawn.
        stretch = math.sqrt(row[ASPECT])
        kind = int(row[KIND])
        reach = (row[RADIUS] + row[SHAPE] if kind == ARC else 1.6 * row[RADIUS]) + 2 * edge_width
        a, b = reach * max(stretch, 1.0), reach * max(1 / stretch, 1.0)
        extent_x, extent_y = math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)
        field, shape = fields[int(row[FIELD])], row[SHAPE:]
        for y in range(max(0, math.floor(row[CY] - extent_y)), min(ny, math.ceil(row[CY] + extent_y) + 1)):
            for x in range(
                max(0, math.floor(row[CX] - extent_x)), min(nx, math.ceil(row[CX] + extent_x) + 1)
            ):
                dy, dx = y - row[CY], x - row[CX]
                u, v = (cos * dx + sin * dy) / stretch, (cos * dy - sin * dx) * stretch
                if u * u + v * v > reach * reach:
                    continue
                d = _distance(u, v, row[RADIUS], kind, shape)
                # Back to pixels, exact along the axes.
                if stretch != 1.0:
                    r2 = max(u * u + v * v, 1e-9)
                    d *= math.sqrt(r2 / ((u / stretch) ** 2 + (v * stretch) ** 2))
                coverage = min(0.5 - d / edge_width, 1.0)
                if coverage <= 0:
                    continue
                target = row[VALUE] + row[SLOPE_Y] * dy + row[SLOPE_X] * dx + row[TONE] * field[y, x]
                if row[RIM] > 0:
                    core = min(max(0.5 - (d + row[RIM]) / edge_width, 0.0), 1.0)
                    target = row[RIM_VALUE] + core * (target - row[RIM_VALUE])
                if row[ADDS] == 0:
                    target -= image[y, x]
                image[y, x] += coverage * target
