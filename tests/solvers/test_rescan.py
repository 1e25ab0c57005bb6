"""Twins see other views than those that judge them, of the same object, with the same noise."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import pytest
import torch
from small_problem import phantom, problem

from ddip_ray.errors import InputError
from ddip_ray.operators.parallel_beam import ParallelBeam
from ddip_ray.operators.protocol import LinearOperator
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.rescan import _rotated, rescan_between, rescan_downsampled, views_between
from ddip_ray.solvers.slab import Slab


def degrees(angles: tuple[float, ...]) -> list[float]:
    return [round(math.degrees(angle), 6) for angle in angles]


def angles_of(A: LinearOperator) -> tuple[float, ...]:
    assert isinstance(A, ParallelBeam)
    return A.geometry.angles


@pytest.mark.parametrize(
    ("measured", "between"),
    [
        ([0, 45, 90, 135], [22.5, 67.5, 112.5, 157.5]),
        ([135, 0, 90, 45], [22.5, 67.5, 112.5, 157.5]),
        ([0, 45, 90, 135, 180, 225, 270, 315], [22.5, 67.5, 112.5, 157.5]),  # a full rotation: lines twice
        ([0, 45, 90, 135, 180 - 1e-10], [22.5, 67.5, 112.5, 157.5]),
        ([0, 10, 20, 30], [5, 15, 25, 35]),  # none in the middle of a missing wedge
        ([0, 30, 90, 120], [15, 60, 105, 150]),
    ],
)
def test_views_between(measured: list[float], between: list[float]) -> None:
    assert degrees(views_between(tuple(map(math.radians, measured)))) == between


@pytest.mark.parametrize("angles", [[0.0, 1.0, 2.0], [0.0, 1.0, math.pi, 1.0 + math.pi]])
def test_too_few_directions(angles: list[float]) -> None:
    with pytest.raises(InputError, match=r"4 views from different directions or more, found [23]"):
        views_between(tuple(angles))


def test_turning_is_counter_clockwise() -> None:
    x = torch.rand(2, 8, 8)
    torch.testing.assert_close(_rotated(x, math.pi / 2), torch.rot90(x, 1, (1, 2)))
    wide = torch.zeros(1, 9, 17)
    wide[0, 4, 8 + 3] = 1.0
    assert _rotated(wide, math.pi / 2)[0, 4 - 3, 8] == pytest.approx(1.0, abs=1e-5)


def test_views_between_are_of_the_object_with_the_scans_noise() -> None:
    x = phantom()
    scan = problem(x, noise_std=0.3)
    rescan = rescan_between(scan, x, seed=1)
    assert set(angles_of(rescan.seen.operator)).isdisjoint(angles_of(scan.operator))
    assert rescan.seen.noise_std == scan.noise_std
    noise = rescan.seen.y - rescan.seen.operator.forward(x)
    assert float(noise.std()) == pytest.approx(0.3, rel=0.05)
    assert rescan.judged is scan.operator
    assert rescan.y is scan.y
    clean = rescan_between(problem(x), x, seed=1)
    torch.testing.assert_close(clean.seen.y, clean.seen.operator.forward(x))
    assert clean.misfit(x, slice(0, 6)).max() < 1e-9


@pytest.mark.parametrize("rotation", [0.0, 0.7, 2.0])
def test_a_rotated_and_downsampled_scan_is_of_the_same_object(rotation: float) -> None:
    x = phantom(size=48)
    scan = problem(x, views=20)
    rescan = rescan_downsampled(scan, x, 2, rotation, seed=1)
    assert angles_of(rescan.judged) == tuple(a + rotation for a in angles_of(scan.operator)[1::2])
    assert angles_of(rescan.seen.operator) == tuple(a + rotation for a in angles_of(scan.operator)[0::2])
    # What judges is what was measured, in detector columns twice as wide.
    measured = scan.y[:, 1::2].reshape(6, 10, 36, 2).mean(dim=3)
    assert float((rescan.y - measured).norm() / measured.norm()) < 0.03
    if rotation == 0:
        small = torch.nn.functional.avg_pool2d(x[:, None], 2)[:, 0]
        assert rescan.misfit(small, slice(0, 6)).max() < 1e-9


def test_judging_views_get_what_the_reconstruction_left_unexplained() -> None:
    x = phantom(size=48)
    scan = problem(x, views=20)
    left = torch.zeros_like(scan.y)
    left[2, 5, 20:24] = 1.0
    spoiled = dataclasses.replace(scan, y=scan.y + left)
    difference = rescan_downsampled(spoiled, x, 2, 0.0, 1).y - rescan_downsampled(scan, x, 2, 0.0, 1).y
    expected = torch.zeros_like(difference)
    expected[2, 2, 10:12] = 1.0
    torch.testing.assert_close(difference, expected, atol=1e-4, rtol=0)


def test_a_downsampled_scan_makes_pixels_as_noisy_as_the_real_one() -> None:
    x = phantom(size=48)
    scan = problem(x, views=20, noise_std=0.3)
    rescan = rescan_downsampled(scan, x, 2, 0.0, seed=1)

    def backprojected_noise(p: SlabProblem, image: torch.Tensor) -> float:
        A = p.operator
        assert isinstance(A, ParallelBeam)
        g = A.geometry
        noise = p.y - A.forward(image)
        # Ramp-filtered back-projection, up to a factor common to both.
        spectrum = torch.fft.rfft(noise, dim=2) * torch.fft.rfftfreq(g.num_detectors) / g.detector_spacing
        filtered = torch.fft.irfft(spectrum, g.num_detectors, dim=2)
        return float((A.adjoint(filtered) / g.pixel_size / g.num_views).std())

    small = torch.nn.functional.avg_pool2d(x[:, None], 2)[:, 0]
    assert backprojected_noise(rescan.seen, small) == pytest.approx(backprojected_noise(scan, x), rel=0.1)


@pytest.mark.parametrize("noise_std", [0.0, 0.2])
def test_rescans_do_not_know_the_slab(noise_std: float) -> None:
    x = phantom()
    for scan in (
        partial(rescan_downsampled, downsampling=2, rotation=0.4, seed=3),
        partial(rescan_between, seed=3),
    ):
        whole = scan(problem(x, noise_std=noise_std), x)
        part = scan(problem(x, Slab(2, 5), noise_std=noise_std), x[2:5])
        assert torch.equal(whole.seen.y[2:5], part.seen.y)
        assert torch.equal(whole.y[2:5], part.y)
