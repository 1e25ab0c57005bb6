"""Random-ellipse phantoms: the only images the default prior ever sees."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ddip_ray.numerics.jit import compiled

Array = NDArray[np.float64]

# One row per ellipse: centre and semi-axes in pixels, angle, value and its slope per pixel along
# y and x, and whether the value is added to what is below (1) or replaces it (0).
_CY, _CX, _AY, _AX, _ANGLE, _VALUE, _SLOPE_Y, _SLOPE_X, _ADDS = range(9)


# How often a phantom has what.
_BODY_PROBABILITY = 0.8  # one large ellipse holds everything, else the frame is full
_MAX_EDGE_WIDTH = 2.2  # pixels
_MAX_ZOOM = 2.2  # the image is a crop out of a frame up to this much larger
_MIN_CONTRAST, _MAX_CONTRAST = 0.01, 0.3  # standard deviation of grey values around the ground
_TEXTURE_PROBABILITY = 0.45


def random_ellipses(num_images: int, size: int, seed: int | tuple[int, ...]) -> Tensor:
    """Dead leaves (Lee, Mumford & Huang, 2001) made of ellipses: images of occlusions at all scales.

    Ellipses with power-law sizes cover each other inside a body. Their grey values keep close to a
    common ground, as soft tissues do, but for a few far ones (bone, gas); some are shells, some
    have a slope, some images a fine texture, itself of small faint ellipses.

    Returns:
        float32 (num_images, 1, size, size) in [0, 1], a function of ``seed``.
    """
    rng = np.random.default_rng(seed)
    images = np.stack([ellipse_phantom(size, rng) for _ in range(num_images)])
    return torch.from_numpy(images.clip(0, 1).astype(np.float32))[:, None]


def ellipse_phantom(size: int, rng: np.random.Generator) -> Array:
    """One image of `random_ellipses`, (size, size), not yet clipped."""
    frame = size * _log_uniform(rng, 1, _MAX_ZOOM)
    centre = frame / 2 - rng.uniform(0, 1, 2) * (frame - size)
    edge_width = rng.uniform(1, _MAX_EDGE_WIDTH)
    ground, contrast = rng.uniform(0.1, 0.9), _log_uniform(rng, _MIN_CONTRAST, _MAX_CONTRAST)
    inside = np.full((size, size), ground)
    body = _rows(
        *(centre + rng.uniform(-0.08, 0.08, 2) * frame),
        *(rng.uniform(0.28, 0.48, 2) * frame),
        rng.uniform(-0.3, 0.3) + math.pi / 2 * (rng.random() < 0.5),
        1.0,
    )
    has_body = rng.random() < _BODY_PROBABILITY
    if has_body:
        paint(inside, _layers(rng, body, frame, ground, contrast), edge_width)
    paint(inside, _leaves(rng, frame, centre, ground, contrast), edge_width)
    if rng.random() < _TEXTURE_PROBABILITY:
        paint(inside, _texture(rng, size), edge_width)
    if not has_body:
        return inside
    air = 0.0 if rng.random() < 0.85 else rng.random()
    outside, coverage = np.full((size, size), air), np.zeros((size, size))
    paint(outside, _strips(rng, frame, centre, air), edge_width)
    paint(coverage, body, edge_width)
    image: Array = outside + coverage * (inside - outside)
    return image


def _layers(rng: np.random.Generator, body: Array, frame: float, ground: float, contrast: float) -> Array:
    """None to three shrunken copies of the body, like skin, fat and muscle."""
    layers = np.repeat(body, rng.integers(0, 4), axis=0)
    n = len(layers)
    layers[:, [_CY, _CX]] += rng.uniform(-0.03, 0.03, (n, 2)) * frame
    layers[:, [_AY, _AX]] *= rng.uniform(0.6, 0.97, (n, 1))
    layers[:, _ANGLE] += rng.uniform(-0.1, 0.1, n)
    layers[:, _VALUE] = ground + contrast * rng.standard_normal(n)
    return layers


def _leaves(rng: np.random.Generator, frame: float, centre: Array, ground: float, contrast: float) -> Array:
    """The organs: few to very many ellipses in the order in which they are painted."""
    if rng.random() < 0.85:
        n = int(np.clip(_log_uniform(rng, 20, 1500) * (frame / 128) ** 2, 3, 2500))
    else:
        n = int(_log_uniform(rng, 3, 20))
    radius = _power_law(rng, n, _log_uniform(rng, 0.6, 3), rng.uniform(0.1, 0.35) * frame)
    if rng.random() < 0.6:
        radius = -np.sort(-radius)  # else small ones may vanish behind large ones
    aspect = np.exp(rng.uniform(-1, 1, n) * rng.uniform(0.2, 1))
    y, x = centre[:, None] + rng.uniform(-0.53, 0.53, (2, n)) * frame

    if rng.random() < 0.4:  # a few tissues, each with a little spread
        tissues = contrast * rng.standard_normal(rng.integers(2, 6))
        offset = rng.choice(tissues, n) + contrast * rng.uniform(0, 0.3) * rng.standard_normal(n)
    else:
        offset = contrast * rng.standard_normal(n)
    extreme = rng.random(n) < (rng.uniform(0, 0.15) if rng.random() < 0.7 else 0)
    far = (rng.choice([0.0, 1.0, *rng.random(2)], n) + 0.1 * rng.standard_normal(n)).clip(0, 1)
    adds = ~extreme & (rng.random(n) < rng.random() * (rng.random() < 0.3))
    value = np.where(extreme, far, np.where(adds, offset, ground + offset))
    steepness = contrast * rng.standard_normal(n) * (rng.random() if rng.random() < 0.5 else 0)
    steepness = np.where(extreme, 0, steepness / (radius * np.maximum(aspect, 1 / aspect)))
    direction = rng.uniform(0, 2 * math.pi, n)
    leaves = _rows(y, x, radius / aspect, radius * aspect, rng.uniform(0, math.pi, n), value)
    leaves[:, _SLOPE_Y], leaves[:, _SLOPE_X] = steepness * np.sin(direction), steepness * np.cos(direction)
    leaves[:, _ADDS] = adds

    # A shell is a leaf followed by a smaller one of another value, like cortical bone.
    is_shell = rng.random(n) < (rng.uniform(0, 0.5) if rng.random() < 0.6 else 0)
    core = leaves.copy()
    core[:, [_AY, _AX]] -= _log_uniforms(rng, 0.7, 4, n, 1)
    core[:, _VALUE] = ground + contrast * rng.standard_normal(n)
    core[:, _ADDS] = 0
    both = np.stack([leaves, core], axis=1)
    is_drawn = np.stack([np.ones(n, bool), is_shell & (core[:, [_AY, _AX]] > 0.3).all(axis=1)], axis=1)
    drawn: Array = both[is_drawn]
    return drawn


def _texture(rng: np.random.Generator, size: int) -> Array:
    """Faint specks of about a pixel all over the image."""
    n = int(size * size * rng.uniform(0.05, 0.3))
    radius, aspect = _log_uniforms(rng, 0.6, 2.2, n), np.exp(rng.uniform(-0.7, 0.7, n))
    value = _log_uniform(rng, 0.003, 0.03) * rng.standard_normal(n)
    y, x = rng.uniform(0, size, (2, n))
    specks = _rows(y, x, radius / aspect, radius * aspect, rng.uniform(0, math.pi, n), value)
    specks[:, _ADDS] = 1
    return specks


def _strips(rng: np.random.Generator, frame: float, centre: Array, air: float) -> Array:
    """None to three long thin ellipses outside the body, like the table it lies on."""
    n = int(rng.integers(0, 4))
    y, x = centre[:, None] + rng.uniform(-0.5, 0.5, (2, n)) * frame
    thickness, length = _log_uniforms(rng, 0.5, 3, n), _log_uniforms(rng, 4, 0.4 * frame, n)
    angle = rng.uniform(-0.3, 0.3, n) + math.pi / 2 * (rng.random(n) < 0.3)
    return _rows(y, x, thickness, length, angle, air + rng.uniform(0, 0.6, n))


def _rows(*columns: ArrayLike) -> Array:
    """Ellipses from their leading columns, scalars repeated, the missing columns zero."""
    given = np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(c)) for c in columns)), axis=1)
    return np.pad(given, ((0, 0), (0, _ADDS + 1 - len(columns)))).astype(np.float64)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _log_uniforms(rng: np.random.Generator, low: float, high: float, *shape: int) -> Array:
    return np.exp(rng.uniform(math.log(low), math.log(high), shape))


def _power_law(rng: np.random.Generator, n: int, low: float, high: float) -> Array:
    """Radii, (n,), with density r^−q, q drawn per image: from mostly large to mostly small leaves."""
    p, u = 1 - rng.uniform(0.6, 2.6), rng.random(n)
    if abs(p) < 1e-3:
        return low * (high / low) ** u
    radius: Array = (low**p + u * (high**p - low**p)) ** (1 / p)
    return radius


@compiled
def paint(image: Array, ellipses: Array, edge_width: float) -> None:
    """Paint ellipses in order into ``image`` (y, x) in place, edges ``edge_width`` pixels wide.

    Coverage falls linearly with the distance to the edge, taken to first order.
    """
    ny, nx = image.shape
    for k in range(len(ellipses)):
        cy, cx, angle, value = ellipses[k, _CY], ellipses[k, _CX], ellipses[k, _ANGLE], ellipses[k, _VALUE]
        # Thinner than this it would be lost between pixel centres.
        b, a = max(ellipses[k, _AY], 0.45), max(ellipses[k, _AX], 0.45)
        cos, sin = math.cos(angle), math.sin(angle)
        margin = 0.75 * edge_width + 1
        extent_x = math.sqrt((a * cos) ** 2 + (b * sin) ** 2) + margin
        extent_y = math.sqrt((a * sin) ** 2 + (b * cos) ** 2) + margin
        for y in range(max(0, math.floor(cy - extent_y)), min(ny, math.ceil(cy + extent_y) + 1)):
            for x in range(max(0, math.floor(cx - extent_x)), min(nx, math.ceil(cx + extent_x) + 1)):
                dy, dx = y - cy, x - cx
                u, v = (cos * dx + sin * dy) / a, (cos * dy - sin * dx) / b
                radius = max(math.sqrt(u * u + v * v), 1e-6)
                slope = max(math.sqrt((u / a) ** 2 + (v / b) ** 2), 1e-6) / radius
                coverage = min(0.5 - (radius - 1) / (slope * edge_width), 1.0)
                if coverage <= 0:
                    continue
                target = value + ellipses[k, _SLOPE_Y] * dy + ellipses[k, _SLOPE_X] * dx
                if ellipses[k, _ADDS] == 0:
                    target -= image[y, x]
                image[y, x] += coverage * target
