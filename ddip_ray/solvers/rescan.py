"""Scan a finished reconstruction again, so that a twin of it can be judged by data it never saw.

The twin has to miss what the real reconstruction misses, or it teaches something else: holding out
measured views, for one, leaves gaps twice as wide as those of the scan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ddip_ray.errors import InputError
from ddip_ray.operators.filtered_backprojection import ramp_filter
from ddip_ray.operators.inner_product import slice_dot
from ddip_ray.operators.parallel_beam import ParallelBeam
from ddip_ray.operators.protocol import LinearOperator
from ddip_ray.solvers.noise import normal
from ddip_ray.solvers.problem import SlabProblem

_SAME_ANGLE = 1e-6  # radians


@dataclass(frozen=True)
class Rescan:
    """What a twin is reconstructed from, and what judges it: ``judged`` maps its image to about ``y``."""

    seen: SlabProblem
    judged: LinearOperator
    y: Tensor

    def misfit(self, x: Tensor, local: slice) -> Tensor:
        """⟨r, R r⟩/⟨y, R y⟩ for slices ``local`` of the slab, (z,), with r = A x − y and R the ramp filter.

        The ramp makes it a distance between images, else low frequencies would decide alone.
        """
        y = self.y[local]
        misfit = self.judged.forward(x) - y
        return slice_dot(misfit, _ramp(misfit)) / slice_dot(y, _ramp(y))


def check_rescannable(problem: SlabProblem, downsampling: int) -> None:
    """Before hours are spent.

    Raises:
        InputError: too few views for any rescan, or nothing left of the slices at this size.
    """
    geometry = _parallel_beam(problem).geometry
    _distinct(geometry.angles)
    largest = min(*geometry.image_shape, geometry.num_detectors)
    if downsampling > largest:
        ny, nx = geometry.image_shape
        raise InputError(
            f"adaptation.downsampling is {downsampling}, expected 1 to {largest} "
            f"for slices of {ny} x {nx} pixels and {geometry.num_detectors} detector columns"
        )


def rescan_between(problem: SlabProblem, x0: Tensor, seed: int) -> Rescan:
    """Views of ``x0: (z, y, x)`` halfway between the measured ones, which judge: for noisy data.

    The twin's noise is as strong but drawn anew, so the measured views are a fair judge of detail that
    noise hides (Lehtinen et al., Noise2Noise, 1803.04189), but for the noise that ``x0`` has kept.

    Raises:
        InputError: too few views.
    """
    operator = _parallel_beam(problem)
    angles = views_between(operator.geometry.angles)
    between = ParallelBeam(
        replace(operator.geometry, angles=angles), device=operator.device, dtype=operator.dtype
    )
    # Opposite views of a full rotation measure the same lines: fewer views between them, each less noisy.
    noise_std = problem.noise_std * math.sqrt(len(angles) / operator.geometry.num_views)
    y = between.forward(x0) + noise_std * _noise(problem, between.measurement_shape, seed)
    seen = replace(problem, operator=between, y=y, noise_std=noise_std)
    return Rescan(seen, operator, problem.y)


def rescan_downsampled(
    problem: SlabProblem, x0: Tensor, downsampling: int, rotation: float, seed: int
) -> Rescan:
    """One view in ``downsampling`` of ``x0``, rotated (radians) and downsampled; the other views judge.

    So many times fewer views of an image so many times smaller miss the same frequencies, counted in
    pixels, but there the reconstruction knows them. Judging views get what the reconstruction left
    unexplained of the measured ones. Rows and columns that fill no whole pixel are dropped.

    Raises:
        InputError: too few views.
    """
    operator = _parallel_beam(problem)
    geometry = operator.geometry
    order = _distinct(geometry.angles)
    seen_views, judged_views = order[::downsampling], [v for i, v in enumerate(order) if i % downsampling]
    ny, nx = (n // downsampling for n in geometry.image_shape)
    small = replace(
        geometry,
        image_shape=(ny, nx),
        num_detectors=geometry.num_detectors // downsampling,
        pixel_size=downsampling * geometry.pixel_size,
        detector_spacing=downsampling * geometry.detector_spacing,
        rotation_center=(geometry.rotation_center - (downsampling - 1) / 2) / downsampling,
    )

    def scan(views: list[int]) -> ParallelBeam:
        angles = tuple(geometry.angles[v] + rotation for v in views)
        return ParallelBeam(replace(small, angles=angles), device=operator.device, dtype=operator.dtype)

    image = functional.avg_pool2d(_rotated(x0, rotation)[:, None], downsampling)[:, 0]
    left = (problem.y - operator.forward(x0))[:, judged_views, : small.num_detectors * downsampling]
    judged, seen = scan(judged_views), scan(seen_views)
    y = judged.forward(image) + left.reshape(*left.shape[:2], -1, downsampling).mean(dim=3)
    # As noisy as the real image, pixel by pixel: larger pixels average, fewer views do not.
    noise_std = problem.noise_std * downsampling * math.sqrt(len(seen_views) / geometry.num_views)
    noise = noise_std * _noise(problem, seen.measurement_shape, seed)
    return Rescan(
        replace(problem, operator=seen, y=seen.forward(image) + noise, noise_std=noise_std), judged, y
    )


def views_between(angles: tuple[float, ...]) -> tuple[float, ...]:
    """Angles halfway between neighbours, in radians; beyond the last one where a wedge is missing."""
    near = [angles[v] % math.pi for v in _distinct(angles)]
    gaps = [b - a for a, b in zip(near, [*near[1:], near[0] + math.pi], strict=True)]
    typical = sorted(gaps)[len(gaps) // 2]
    return tuple(a + min(gap, typical) / 2 for a, gap in zip(near, gaps, strict=True))


def _distinct(angles: tuple[float, ...]) -> list[int]:
    """Indices of views in the order of their angles modulo π, one for each direction."""
    order: list[int] = []
    for view in sorted(range(len(angles)), key=lambda v: angles[v] % math.pi):
        if not order or angles[view] % math.pi - angles[order[-1]] % math.pi > _SAME_ANGLE:
            order.append(view)
    if angles[order[-1]] % math.pi - angles[order[0]] % math.pi > math.pi - _SAME_ANGLE:
        order.pop()  # just below π is the direction of 0
    if len(order) < 4:
        raise InputError(
            f"D3IP needs 4 views from different directions or more, found {len(order)}", "Use --method dds."
        )
    return order


def _parallel_beam(problem: SlabProblem) -> ParallelBeam:
    if not isinstance(problem.operator, ParallelBeam):
        raise TypeError(f"rescan: expected a ParallelBeam, got {type(problem.operator).__name__}")
    return problem.operator


def _noise(problem: SlabProblem, shape: tuple[int, ...], seed: int) -> Tensor:
    slices = range(problem.slab.start, problem.slab.stop)
    return torch.stack([normal(shape, seed, z) for z in slices]).to(problem.y.device)


def _rotated(x: Tensor, rotation: float) -> Tensor:
    """``x: (z, y, x)`` rotated counter-clockwise about the centre, its border continued outside."""
    if rotation == 0:
        return x
    (ny, nx), (cos, sin) = x.shape[1:], (math.cos(rotation), math.sin(rotation))
    # affine_grid counts in half image sides, and its second axis points down.
    matrix = x.new_tensor([[cos, -sin * ny / nx, 0.0], [sin * nx / ny, cos, 0.0]])
    grid = functional.affine_grid(matrix.expand(len(x), 2, 3), [len(x), 1, ny, nx], align_corners=False)
    turned = functional.grid_sample(
        x[:, None], grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return turned[:, 0]


def _ramp(y: Tensor) -> Tensor:
    return ramp_filter(y, 1.0, "hann")
