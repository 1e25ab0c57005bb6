"""Random fields: the textures of phantoms, and what an instrument does to an image."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from ddip_ray.prior.training.draws import log_uniform

Array = NDArray[np.float64]

_MAX_DECAY = 2.5  # amplitude falls as frequency^−s, s from 0 (white) to this (clouds)
_MAX_STRETCH = 4.0  # of one axis, for fibres


def power_law_field(rng: np.random.Generator, size: int, decay: float) -> Array:
    """A periodic Gaussian field (size, size) of mean 0 and variance 1, amplitude |k|^−``decay``.

    Natural images have a decay of about 1 (Field 1987, "Relations between the statistics of natural images
    and the response properties of cortical cells"). One axis, in any direction, may be stretched.
    """
    angle, stretch = rng.uniform(0, math.pi), log_uniform(rng, 1, _MAX_STRETCH) ** (rng.random() < 0.4)
    return _field(rng, size, _stretched(size, angle, stretch) ** -decay)


def band_field(rng: np.random.Generator, size: int, growth: float, width: float) -> Array:
    """A periodic Gaussian field of mean 0 and variance 1, amplitude |k|^``growth`` exp(−(k/``width``)²).

    ``width`` is in cycles a pixel. This is what noise looks like after filtered backprojection (growth 0.5,
    Riederer et al. 1978, "The noise power spectrum in computed X-ray tomography") or interpolation (0).
    """
    k = _stretched(size, 0.0, 1.0)
    return _field(rng, size, k**growth * np.exp(-((k / width) ** 2)))


def random_field(rng: np.random.Generator, size: int) -> Array:
    """A texture (size, size) of mean 0 and variance 1: a power-law field, plain, in folds or in lines.

    Folds are a field through a steep step, like grey and white matter; lines are where it crosses a level,
    like sulci and vessels.
    """
    field = power_law_field(rng, size, rng.uniform(0, _MAX_DECAY))
    if rng.random() < 0.6:
        return field
    smooth = power_law_field(rng, size, rng.uniform(1.5, 3.5)) - rng.normal()
    steepness = log_uniform(rng, 1, 20)
    shaped = np.tanh(steepness * smooth) if rng.random() < 0.5 else np.exp(-np.abs(steepness * smooth))
    return _standardised(shaped)


def blurred(image: Array, sigma: float) -> Array:
    """A square ``image`` after a Gaussian blur of ``sigma`` pixels, periodic at its border."""
    k = np.hypot(*_frequencies(len(image)))
    return _filtered(image, np.exp(-2 * (math.pi * sigma * k) ** 2))


def bias_field(rng: np.random.Generator, size: int, strength: float) -> Array:
    """A smooth positive factor (size, size) around 1, like a receive coil's: exp of a random quadratic."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    a, b, c, d, e = strength * rng.standard_normal(5)
    factor: Array = np.exp(a * y + b * x + c * (y * y - 1 / 3) + d * (x * x - 1 / 3) + e * x * y)
    return factor


@functools.lru_cache(maxsize=4)
def _frequencies(size: int) -> tuple[Array, Array]:
    ky: Array = np.fft.fftfreq(size).astype(np.float64)[:, None]
    kx: Array = np.fft.rfftfreq(size).astype(np.float64)[None]
    return ky, kx


def _stretched(size: int, angle: float, stretch: float) -> Array:
    """|k| in cycles a pixel on the half plane of a real transform, one direction stretched; never zero."""
    ky, kx = _frequencies(size)
    if stretch != 1:
        cos, sin = math.cos(angle), math.sin(angle)
        ky, kx = (cos * ky + sin * kx) * stretch, (cos * kx - sin * ky) / stretch
    return np.maximum(np.hypot(ky, kx), 0.5 / size)


def _field(rng: np.random.Generator, size: int, amplitude: Array) -> Array:
    amplitude[0, 0] = 0
    return _standardised(_filtered(rng.standard_normal((size, size)), amplitude))


def _filtered(image: Array, response: Array) -> Array:
    return np.fft.irfft2(np.fft.rfft2(image) * response, image.shape)


def _standardised(field: Array) -> Array:
    centred = field - field.mean()
    standardised: Array = centred / max(float(centred.std()), 1e-6)
    return standardised
