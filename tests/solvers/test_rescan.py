"""Copies that are scanned again: the same object, smaller and rotated, as undersampled and as noisy."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from small_problem import phantom, problem
from torch.nn import functional

from ddip_ray.errors import InputError
from ddip_ray.operators.base import LinearOperator
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.solvers.adapting.rescan import _rotated, check_rescannable, rescan
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


def parallel_beam(A: LinearOperator) -> ParallelBeam:
    assert isinstance(A, ParallelBeam)
    return A


def with_views(angles: list[float]) -> SlabProblem:
    scan = problem(phantom(), views=len(angles))
    geometry = dataclasses.replace(parallel_beam(scan.operator).geometry, angles=tuple(angles))
    return dataclasses.replace(scan, operator=ParallelBeam(geometry))


@pytest.mark.parametrize("angles", [[0.0, 1.0, 2.0], [0.0, 1.0, math.pi, 1.0 + math.pi]])
def test_too_few_directions(angles: list[float]) -> None:
    with pytest.raises(InputError, match=r"needs 4 views from different directions or more, found [23]"):
        check_rescannable(with_views(angles), 2)
    check_rescannable(with_views(angles), 1)


def test_nothing_left_of_the_slices() -> None:
    scan = problem(phantom(), views=60)
    with pytest.raises(InputError, match="downsampling is 25, expected 1 to 24 for slices of 24 x 24 pixels"):
        check_rescannable(scan, 25)


def test_rotations_are_counter_clockwise() -> None:
    x = torch.rand(2, 8, 8)
    quarter = math.pi / 2
    torch.testing.assert_close(_rotated(x, [quarter, 0.0]), torch.stack([torch.rot90(x[0]), x[1]]))
    wide = torch.zeros(1, 9, 17)
    wide[0, 4, 8 + 3] = 1.0
    assert _rotated(wide, [quarter])[0, 4 - 3, 8] == pytest.approx(1.0, abs=1e-5)


def test_nothing_below_the_lowest_is_scanned() -> None:
    """Rotation overshoots at edges, so that an image cut off before it is not after it."""
    x = phantom(size=48) - 0.2 * (phantom(size=48) == 0)
    scan = problem(x, views=20)
    free, cut = (rescan(scan, x, 2, num_copies=3, seed=1, lowest=lowest) for lowest in (None, 0.0))
    assert float(free.scan.y.min()) < -0.5
    assert float(cut.scan.y.min()) == 0
    assert torch.equal(cut.target, free.target)


def test_the_scan_is_of_copies_of_every_slice() -> None:
    x = phantom(size=48)
    scan = problem(x, views=20)
    again = rescan(scan, x, downsampling=2, num_copies=3, seed=1)
    geometry = parallel_beam(again.scan.operator).geometry
    assert geometry.image_shape == (24, 24)
    assert geometry.angles == parallel_beam(scan.operator).geometry.angles[::2]
    assert again.scan.slab == Slab(0, 18)
    assert again.scan.num_slices == 18
    assert again.target.shape == (18, 24, 24)
    torch.testing.assert_close(again.scan.operator.forward(again.target), again.scan.y, atol=2e-2, rtol=0)
    # A copy keeps its slice's mean, and no two are alike.
    assert len({tuple(copy.flatten().tolist()) for copy in again.target}) == 18
    small = functional.avg_pool2d(x[:, None], 2)[:, 0]
    for z in range(6):
        for copy in again.target[3 * z : 3 * z + 3]:
            assert float(copy.mean()) == pytest.approx(float(small[z].mean()), rel=0.05)


def test_a_copy_as_it_stands_projects_to_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddip_ray.solvers.adapting.rescan._angle", lambda seed, turns: 0.0)
    x = phantom(size=48)
    scan = problem(x, views=20)
    again = rescan(scan, x, downsampling=2, num_copies=1, seed=1)
    torch.testing.assert_close(again.target, functional.avg_pool2d(x[:, None], 2)[:, 0], atol=1e-4, rtol=0)
    measured = scan.y[:, ::2].reshape(6, 10, 36, 2).mean(dim=3)
    assert float((again.scan.y - measured).norm() / measured.norm()) < 0.03


def test_the_target_gets_what_the_reconstruction_left_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddip_ray.solvers.adapting.rescan._angle", lambda seed, turns: 0.0)
    x = phantom(size=48)
    scan = problem(x, views=30)
    blurred = functional.avg_pool2d(x[:, None], 3, stride=1, padding=1)[:, 0]
    again = rescan(scan, blurred, downsampling=2, num_copies=1, seed=1)
    true, lost = (functional.avg_pool2d(image[:, None], 2)[:, 0] for image in (x, blurred))
    assert float((again.target - true).norm()) < 0.5 * float((lost - true).norm())
    # The scan itself is of the reconstruction: of the truth only the target may know.
    torch.testing.assert_close(again.scan.y, again.scan.operator.forward(lost), atol=1e-4, rtol=0)


def test_pixels_are_as_noisy_as_the_real_ones() -> None:
    x = phantom(size=48)
    scan = problem(x, views=20, noise_std=0.3)
    again = rescan(scan, x, downsampling=2, num_copies=1, seed=1)
    clean = rescan(problem(x, views=20), x, downsampling=2, num_copies=1, seed=1)

    def backprojected(A: ParallelBeam, noise: torch.Tensor) -> float:
        g = A.geometry
        # Ramp-filtered back-projection, up to a factor common to both.
        spectrum = torch.fft.rfft(noise, dim=2) * torch.fft.rfftfreq(g.num_detectors) / g.detector_spacing
        filtered = torch.fft.irfft(spectrum, g.num_detectors, dim=2)
        return float((A.adjoint(filtered) / g.pixel_size / g.num_views).std())

    A, small = parallel_beam(scan.operator), parallel_beam(again.scan.operator)
    real = backprojected(A, scan.y - A.forward(x))
    assert backprojected(small, again.scan.y - clean.scan.y) == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize("noise_std", [0.0, 0.2])
def test_a_rescan_does_not_know_the_slab(noise_std: float) -> None:
    x = phantom()
    whole = rescan(problem(x, noise_std=noise_std), x, 2, 3, seed=3)
    part = rescan(problem(x, Slab(2, 5), noise_std=noise_std), x[2:5], 2, 3, seed=3)
    assert part.scan.slab == Slab(6, 15)
    assert torch.equal(whole.scan.y[6:15], part.scan.y)
    assert torch.equal(whole.target[6:15], part.target)
