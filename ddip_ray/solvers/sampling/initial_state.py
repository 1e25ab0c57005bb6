"""The noisy image at which a trajectory starts."""

from __future__ import annotations

import math

from torch import Tensor

from ddip_ray.config.settings import SamplerSettings
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.random import normal
from ddip_ray.solvers.core.steps import pseudo_inverse

_CG_ITERATIONS = 20  # a truncated pseudo-inverse: more would raise the noise


def initial_image(problem: SlabProblem, settings: SamplerSettings, seed: int, alpha_bar: float) -> Tensor:
    """x_T of the slab, (z, y, x): noise, or √ᾱ x + √(1−ᾱ) noise for an image x that is known.

    The nearer the first timestep is to the clean image, the more x decides: an earlier reconstruction
    wants a ``start_t`` of a few hundred (Chung, Sim and Ye, Come-Closer-Diffuse-Faster, CVPR 2022,
    2112.05146).

    Args:
        problem: measurements, in the prior's image range.
        settings: ``start`` says which of these it is.
        seed: seed of the noise.
        alpha_bar: ᾱ at the first timestep.

    Raises:
        ValueError: ``start`` is "reconstruction", and the problem has none.
    """
    if settings.start == "same_noise":
        one = normal(problem.operator.image_shape, seed, 0, 0, is_complex=problem.y.is_complex())
        return one.to(problem.y.device).expand_as(problem.zeros()).clone()
    noise = problem.unit_noise(seed, 0, settings.anchor_distance)
    if settings.start == "noise":
        return noise
    x = problem.initial_image
    if settings.start == "pseudo_inverse":
        x = pseudo_inverse(problem.operator, problem.y, _CG_ITERATIONS)
    if x is None:
        raise ValueError("start: 'reconstruction' needs a problem with an initial_image")
    return math.sqrt(alpha_bar) * x + math.sqrt(1 - alpha_bar) * noise
