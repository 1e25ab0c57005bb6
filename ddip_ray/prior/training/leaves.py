"""Dead leaves of many shapes and textures: the images that a prior is trained on."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.prior.training import leaf_painter as row
from ddip_ray.prior.training.draws import log_uniform, log_uniforms, power_law
from ddip_ray.prior.training.phantoms import ellipse_phantom
from ddip_ray.prior.training.textures import band_field, bias_field, blurred, power_law_field, random_field

Array = NDArray[np.float64]
Rng = np.random.Generator

_ELLIPSES_PROBABILITY = 0.35  # else leaves of all shapes
_MAX_ZOOM = 2.2  # the image is a crop out of a frame up to this much larger
_NUM_FIELDS = 3
_MAX_LAYERS = 8  # so many times may leaves cover the frame


def random_leaves(num_images: int, size: int, seed: int | tuple[int, ...]) -> Tensor:
    """Phantoms: shapes that cover each other, with textures, seen through an instrument.

    Dead leaves (Lee, Mumford & Huang 2001, "Occlusion models for natural images") teach a denoiser nearly
    what natural images teach it (Achddou et al. 2021, "Synthetic images as a regularity prior for image
    restoration neural networks"; with polygons, textures and blur, "VibrantLeaves", 2504.10201). Added is
    what scanners see: a body in air, soft tissues of nearly one value, thin bright shells, implants, coils.

    Returns:
        float32 (num_images, 1, size, size) in [0, 1], a function of ``seed``.
    """
    rng = np.random.default_rng(seed)
    images = np.stack([_phantom(size, rng) for _ in range(num_images)])
    return torch.from_numpy(images.clip(0, 1).astype(np.float32))[:, None]


def _phantom(size: int, rng: Rng) -> Array:
    is_ellipses = rng.random() < _ELLIPSES_PROBABILITY
    image = ellipse_phantom(size, rng) if is_ellipses else _leaf_phantom(size, rng)
    return _as_measured(_toned(image, rng), rng)


def _leaf_phantom(size: int, rng: Rng) -> Array:
    """Leaves of every shape on a ground, mostly inside a body."""
    frame = size * log_uniform(rng, 1, _MAX_ZOOM)
    centre = frame / 2 - rng.uniform(0, 1, 2) * (frame - size)
    edge_width = rng.uniform(0.8, 2.2)
    contrast = log_uniform(rng, 0.008, 0.3)
    ground = rng.uniform(0.1, 0.9)
    fields = np.stack([random_field(rng, size) for _ in range(_NUM_FIELDS)])
    inside = np.full((size, size), ground)
    if rng.random() < 0.35:  # a ground of two tissues in folds, or clouds
        inside += contrast * log_uniform(rng, 0.2, 1.5) * random_field(rng, size)
    row.paint_leaves(inside, _leaves(rng, frame, centre, ground, contrast), fields, edge_width)
    if rng.random() < 0.4:
        return inside
    body = _body(rng, frame, centre)
    coverage = np.zeros((size, size))
    row.paint_leaves(coverage, body, fields, edge_width)
    air = np.zeros((size, size))
    if rng.random() < 0.3:  # something outside: a table, a holder
        row.paint_leaves(air, _leaves(rng, frame, centre, 0.15, 0.2)[:3], fields, edge_width)
    outside = air.clip(0, 1) + (rng.random() if rng.random() < 0.1 else 0.0)
    image: Array = outside + coverage * (inside - outside)
    return image


def _body(rng: Rng, frame: float, centre: Array) -> Array:
    body = np.zeros((1, row.NUM_COLUMNS))
    body[0, [row.CY, row.CX]] = centre + rng.uniform(-0.08, 0.08, 2) * frame
    body[0, row.RADIUS], body[0, row.ASPECT] = rng.uniform(0.3, 0.5) * frame, math.exp(rng.uniform(-0.5, 0.5))
    body[0, row.ANGLE], body[0, row.VALUE] = rng.uniform(-0.4, 0.4), 1
    _shape(rng, body, np.array([row.STAR]), roughness=0.06)
    return body


def _leaves(rng: Rng, frame: float, centre: Array, ground: float, contrast: float) -> Array:
    """From few to very many leaves, rows of `leaf_painter`, in the order in which they are painted."""
    few = rng.random() < 0.35
    n = int(log_uniform(rng, 3, 25) if few else log_uniform(rng, 25, 700) * (frame / 128) ** 2)
    radius = power_law(rng, n, log_uniform(rng, 0.7, 4), rng.uniform(0.1, 0.4) * frame)
    radius = radius[np.cumsum(4 * radius**2) < _MAX_LAYERS * frame**2]
    n = len(radius)
    leaves = np.zeros((n, row.NUM_COLUMNS))
    leaves[:, [row.CY, row.CX]] = centre + rng.uniform(-0.55, 0.55, (n, 2)) * frame
    leaves[:, row.RADIUS] = -np.sort(-radius) if rng.random() < 0.6 else radius
    leaves[:, row.ASPECT] = np.exp(rng.uniform(-1.2, 1.2, n) * rng.uniform(0.1, 1))
    leaves[:, row.ANGLE] = rng.uniform(0, 2 * math.pi, n)
    kinds = rng.choice(4, n, p=rng.dirichlet([1.0, 1.0, 1.0, 0.4]))
    _shape(rng, leaves, kinds, roughness=rng.uniform(0.05, 0.3))
    _fill(rng, leaves, ground, contrast)
    return leaves


def _shape(rng: Rng, leaves: Array, kinds: NDArray[np.int64], roughness: float) -> None:
    """Give leaves their kind, and the numbers of its outline."""
    n = len(leaves)
    leaves[:, row.KIND] = kinds
    outline = leaves[:, row.OUTLINE :]
    superellipse, polygon, star, arc = (kinds == kind for kind in range(4))
    exponent = np.where(rng.random(n) < 0.5, 2.0, log_uniforms(rng, 1.2, 8, n))
    outline[superellipse, 0] = exponent[superellipse]
    directions = np.arange(6) * math.pi / 3 + rng.uniform(-0.5, 0.5, (n, 6))
    heights = rng.uniform(0.5, 1.0, (n, 6)) + np.where(rng.random((n, 6)) < 0.35, 0.5, 0.0)
    outline[polygon, :6] = (np.cos(directions) / heights)[polygon]
    outline[polygon, 6:] = (np.sin(directions) / heights)[polygon]
    amplitudes = roughness * rng.standard_normal((n, 12)) / np.tile(np.arange(1, 7), 2) ** 0.7
    outline[star] = amplitudes.clip(-0.2, 0.2)[star]
    outline[arc, 0] = (log_uniforms(rng, 0.4, 4, n))[arc]
    outline[arc, 1] = rng.uniform(0.2, math.pi, n)[arc]
    leaves[arc, row.ASPECT] = 1


def _fill(rng: Rng, leaves: Array, ground: float, contrast: float) -> None:
    """Give leaves grey values, most near ``ground`` by ``contrast``, a few far off; slopes, shells, tones."""
    n, radius = len(leaves), leaves[:, row.RADIUS]
    if rng.random() < 0.5:  # a few tissues, each with a little spread
        tissues = contrast * rng.standard_normal(rng.integers(2, 6))
        offset = rng.choice(tissues, n) + contrast * rng.uniform(0, 0.2) * rng.standard_normal(n)
    else:
        offset = contrast * rng.standard_normal(n)
    far = (rng.choice([0.0, 1.0, *rng.random(2)], n) + 0.1 * rng.standard_normal(n)).clip(0, 1)
    is_far = rng.random(n) < (rng.uniform(0, 0.15) if rng.random() < 0.6 else 0)
    adds = ~is_far & (rng.random(n) < rng.random() * (rng.random() < 0.3))
    leaves[:, row.VALUE] = np.where(is_far, far, np.where(adds, offset, ground + offset))
    leaves[:, row.ADDS] = adds
    slope = contrast * rng.standard_normal((n, 2)) * (rng.random() if rng.random() < 0.5 else 0)
    leaves[:, [row.SLOPE_Y, row.SLOPE_X]] = slope * ~is_far[:, None] / np.maximum(radius, 2)[:, None]
    is_shell = (rng.random(n) < (rng.uniform(0, 0.5) if rng.random() < 0.5 else 0)) & (radius > 2)
    leaves[:, row.RIM] = np.where(is_shell, log_uniforms(rng, 0.6, 4, n), 0)
    leaves[:, row.RIM_VALUE] = np.where(rng.random(n) < 0.5, far, ground + contrast * rng.standard_normal(n))
    leaves[:, row.FIELD] = rng.integers(0, _NUM_FIELDS, n)
    has_tone = rng.random(n) < (rng.random() if rng.random() < 0.55 else 0)
    leaves[:, row.TONE] = np.where(has_tone, contrast * log_uniform(rng, 0.05, 1) * rng.random(n), 0)


def _toned(image: Array, rng: Rng) -> Array:
    """The image in other grey values: a texture in some of them, a gamma, another contrast."""
    if rng.random() < 0.4:
        low, high = np.sort(rng.uniform(image.min(), image.max(), 2)) if rng.random() < 0.5 else (0.02, 2.0)
        field = power_law_field(rng, len(image), rng.uniform(0.3, 2.2))
        image = image + log_uniform(rng, 0.002, 0.06) * field * ((image > low) & (image <= high))
    if rng.random() < 0.3:
        image = image.clip(0, 1) ** math.exp(rng.uniform(-0.7, 0.7))
    if rng.random() < 0.2:
        image = bias_field(rng, len(image), 0.25) * image
    if rng.random() < 0.1:
        image = 1 - image
    return image


def _as_measured(image: Array, rng: Rng) -> Array:
    """The image as an instrument shows it: blurred, with a little coloured noise."""
    size = len(image)
    if rng.random() < 0.5:
        image = blurred(image, rng.uniform(0.2, 0.9))
    if rng.random() < 0.5:
        noise = band_field(rng, size, rng.uniform(0, 0.8), log_uniform(rng, 0.12, 0.8))
        noise *= log_uniform(rng, 0.001, 0.02)
        image = image + noise * (image > 0.02 if rng.random() < 0.6 else 1.0)
    return image
