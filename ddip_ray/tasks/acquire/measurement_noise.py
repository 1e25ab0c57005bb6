"""Simulated measurement noise, keyed by seed and slice, so that it does not depend on the slabs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.stores.schema import GaussianNoise, Intensity, Noise, NoNoise, PoissonNoise

WATER_ATTENUATION = 0.0195  # 1/mm at about 70 keV: HU = 1000 (mu / mu_water - 1)
DARKEST_COUNT = 0.5  # count of a detector pixel that no photon reaches, so that its logarithm is finite


@dataclass(frozen=True)
class NoiseRequest:
    """The noise to simulate.

    ``level`` of gaussian noise is its standard deviation divided by the root mean square of the noise-free
    measurements of the whole volume; of poisson noise it is photons per detector pixel and view in air.
    """

    kind: Literal["none", "gaussian", "poisson"] = "none"
    level: float = 0.0


NO_NOISE = NoiseRequest()


def parse_noise(text: str) -> NoiseRequest:
    """The noise that a text such as ``none``, ``gaussian:0.01`` or ``poisson:1e5`` asks for."""
    kind, _, number = text.partition(":")
    if text == "none":
        return NoiseRequest()
    try:
        level = float(number)
    except ValueError:
        level = math.nan
    if kind not in ("gaussian", "poisson") or not (math.isfinite(level) and level > 0):
        raise InputError(
            f"`noise`: found {text!r}, expected none, gaussian:RELATIVE_STD or poisson:PHOTONS",
            "For example gaussian:0.01 or poisson:1e5",
        )
    return NoiseRequest("gaussian" if kind == "gaussian" else "poisson", level)


def attenuation_of_one(intensity: Intensity, mu_max: float | None) -> float:
    """The attenuation in 1/mm of the normalised value 1, which photon counting needs.

    It is ``mu_max`` if given, and otherwise known for images in 1/mm, or in HU with air (-1000 HU) as 0.

    Raises:
        InputError: the attenuation is unknown or not positive.
    """
    if mu_max is not None:
        if not (math.isfinite(mu_max) and mu_max > 0):
            raise InputError(f"`mu_max`: found {mu_max:g}, expected a positive attenuation in 1/mm")
        return mu_max
    if intensity.unit == "1/mm" and intensity.offset == 0:
        return intensity.scale
    if intensity.unit == "HU" and intensity.offset == -1000:
        return WATER_ATTENUATION * intensity.scale / 1000
    raise InputError(
        "poisson noise counts photons, and how much the image attenuates is unknown",
        "Give `mu_max`, the attenuation in 1/mm of the brightest value (0.039 for CT up to 1000 HU)",
    )


def noise_energy(request: NoiseRequest, clean: NDArray[np.float32]) -> float:
    """The sum over rays of the variance that the noise will have; ``clean`` is as for `add_noise`.

    Gaussian: level² times the rays' energy. Poisson: −log(counts / photons) has the variance
    exp(p) / photons, to first order.
    """
    wide = clean.astype(np.float64)
    if request.kind == "gaussian":
        return float(request.level**2 * np.square(wide).sum())
    return float(np.exp(wide).sum() / request.level)


def describe_noise(request: NoiseRequest, std: float, seed: int) -> Noise:
    """The noise as the store records it; ``std`` in units of the stored measurements."""
    if request.kind == "gaussian":
        return GaussianNoise(relative_std=request.level, std=std, seed=seed)
    if request.kind == "poisson":
        return PoissonNoise(photons=request.level, std=std, seed=seed)
    return NoNoise()


def add_noise(clean: NDArray[np.float32], noise: Noise, start: int) -> NDArray[np.float32]:
    """Noisy measurements (z, view, detector) of the slices from global index ``start``.

    Poisson: ``clean`` are line integrals p of attenuation, counts ~ Poisson(photons exp(-p)), and the noisy
    measurements are -log(counts / photons).
    """
    if isinstance(noise, NoNoise):
        return clean
    return np.stack([_add_noise_to_slice(y, noise, start + i) for i, y in enumerate(clean)])


def _add_noise_to_slice(y: NDArray[np.float32], noise: Noise, slice_index: int) -> NDArray[np.float32]:
    seed: Any = getattr(noise, "seed", 0)
    generator = np.random.default_rng([seed, slice_index])
    if isinstance(noise, GaussianNoise):
        return y + np.float32(noise.std) * generator.standard_normal(y.shape, dtype=np.float32)
    if isinstance(noise, PoissonNoise):
        counts = generator.poisson(noise.photons * np.exp(-y.astype(np.float64)))
        return -np.log(np.maximum(counts, DARKEST_COUNT) / noise.photons).astype(np.float32)
    raise TypeError(f"cannot simulate {type(noise).__name__}")
