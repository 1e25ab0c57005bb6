"""The scan of larger pixels: which views it keeps, what its pixels and columns measure, what it sees."""

from __future__ import annotations

import math

import pytest
import torch

from ddip_ray.operators.ct.coarse import distinct_views, field_of_view
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import ParallelBeam

ANGLES = tuple(math.pi * i / 20 for i in range(20))


@pytest.mark.parametrize(
    ("angles", "distinct"),
    [
        ([0, 45, 90, 135], [0, 1, 2, 3]),
        ([135, 0, 90, 45], [1, 3, 2, 0]),
        ([0, 45, 90, 135, 180, 225, 270, 315], [0, 1, 2, 3]),  # a full rotation measures lines twice
        ([0, 45, 90, 135, 180 - 1e-10], [0, 1, 2, 3]),
    ],
)
def test_views_in_distinct_directions(angles: list[float], distinct: list[int]) -> None:
    assert distinct_views(tuple(map(math.radians, angles))) == distinct


@pytest.mark.parametrize("center", [36.0, 41.3])
def test_larger_pixels_are_measured_by_larger_columns(center: float) -> None:
    operator = ParallelBeam(ParallelBeamGeometry((48, 44), ANGLES, 75, 0.5, 0.5, center))
    small = operator.coarse_scan(2).operator
    assert isinstance(small, ParallelBeam)
    assert small.geometry.image_shape == (24, 22)
    assert small.geometry.angles == ANGLES[::2]
    x = torch.zeros(1, 24, 22)
    x[0, 6:15, 8:18] = 1.0
    large = x.repeat_interleave(2, 1).repeat_interleave(2, 2)
    measured = operator.forward(large)[:, ::2, :74].reshape(1, 10, 37, 2).mean(dim=3)
    assert float((small.forward(x) - measured).norm() / measured.norm()) < 0.03


def test_field_of_view() -> None:
    def seen(num_detectors: int, center: float) -> torch.Tensor:
        return field_of_view(ParallelBeamGeometry((24, 24), ANGLES, num_detectors, 2.0, 2.0, center))

    assert seen(36, 17.5).min() == 1  # the detector is longer than the diagonal
    disc = seen(20, 8.75)  # 8.75 columns to the left of the axis, 10.25 to the right
    assert float(disc[12].sum()) == 18
    assert float(disc.sum()) == pytest.approx(math.pi * 8.75**2, rel=0.05)
    assert seen(20, -3.0).min() == 1  # the axis is beside the detector: no such disc
