"""A small phantom, its scan, and how a method is run on it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ddip_ray.config.methods import overlaid
from ddip_ray.config.settings import RunConfig
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.build import with_prior
from ddip_ray.solvers.core.communicator import Alone, Communicator
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


def phantom(num_slices: int = 6, size: int = 24) -> Tensor:
    c = torch.linspace(-1, 1, size)
    z = torch.linspace(0, 1, num_slices)[:, None, None]
    body = (c[:, None] ** 2 + 1.3 * c**2 < 0.7).float()
    hole = ((c[:, None] - 0.3 * z + 0.1) ** 2 + (c + 0.2) ** 2 < 0.08).float()
    return 0.7 * body - 0.4 * hole * body


def operator(size: int = 24, views: int = 20) -> ParallelBeam:
    detectors = math.ceil(1.5 * size)
    angles = [math.pi * i / views for i in range(views)]
    return ParallelBeam(
        ParallelBeamGeometry((size, size), tuple(angles), detectors, 1.0, 1.0, (detectors - 1) / 2)
    )


def problem(x: Tensor, slab: Slab | None = None, views: int = 20, noise_std: float = 0.0) -> SlabProblem:
    slab = slab or Slab(0, len(x))
    A = operator(x.shape[-1], views)
    noise = torch.stack(
        [torch.randn(A.measurement_shape, generator=torch.Generator().manual_seed(z)) for z in range(len(x))]
    )
    y = A.forward(x) + noise_std * noise
    return SlabProblem(A, y[slab.start : slab.stop], slab, len(x), noise_std)


def build(
    name: str,
    scan: SlabProblem,
    prior: DiffusionPrior,
    communicator: Communicator | None = None,
    **settings: Any,
) -> Any:
    """The method ``name`` on ``scan``; ``settings`` of `RunConfig`, policy: fixed unless given."""
    settings = overlaid({"adaptation": {"policy": "fixed"}}, settings)
    config = RunConfig.for_method(name, **settings)
    return with_prior(config, scan, communicator or Alone(), prior)


def psnr(result: Tensor, x: Tensor) -> float:
    return -10 * math.log10(float((result - x).square().mean()))


def solve(method: Method) -> Tensor:
    for i in range(method.num_steps):
        report = method.step(i)
    assert math.isfinite(report.residual)
    return method.result()
