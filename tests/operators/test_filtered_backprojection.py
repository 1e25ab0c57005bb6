"""FBP: right values, right place, on closed forms and on measured data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from test_parallel_beam import BACKENDS, ellipse_image, ellipse_sinogram, half_turn
from torch import Tensor

from ddip_ray.operators import ParallelBeam, ParallelBeamGeometry, filtered_backprojection
from ddip_ray.operators.ct.filtered_backprojection import FilterName, angular_weights, ramp_response
from ddip_ray.operators.ct.parallel_beam import Backend

DISC = (6.0, -4.0, 20.0, 20.0, 0.0, 1.0)
GEOMETRY = ParallelBeamGeometry.centered((80, 80), half_turn(180), 115)


def inside(radius: float, geometry: ParallelBeamGeometry = GEOMETRY) -> Tensor:
    return ellipse_image((*DISC[:2], radius, radius, 0.0, 1.0), geometry, oversampling=1) > 0.5


def reconstruct(geometry: ParallelBeamGeometry, filter_name: FilterName = "ram-lak") -> Tensor:
    operator = ParallelBeam(geometry, dtype=torch.float64)
    return filtered_backprojection(operator, ellipse_sinogram(DISC, geometry)[None], filter_name)[0]


GEOMETRIES = {
    "plain": GEOMETRY,
    "off_center": replace(GEOMETRY, rotation_center=50.3),
    "other_units": replace(GEOMETRY, image_shape=(160, 160), pixel_size=0.5),
    "fine_detector": replace(GEOMETRY, num_detectors=230, detector_spacing=0.5, rotation_center=114.5),
    "coarse_detector": replace(GEOMETRY, num_detectors=58, detector_spacing=2.0, rotation_center=28.5),
    "not_square": replace(GEOMETRY, image_shape=(80, 66)),
    "full_turn": replace(GEOMETRY, angles=tuple(np.linspace(0, 2 * np.pi, 360, endpoint=False))),
    "both_ends": replace(GEOMETRY, angles=tuple(np.linspace(0, np.pi, 181))),
    "shuffled": replace(GEOMETRY, angles=tuple(np.random.default_rng(0).permutation(half_turn(180)) - 9.0)),
    "golden": replace(GEOMETRY, angles=tuple(np.arange(200) * np.pi * (math.sqrt(5) - 1) / 2)),
    "uneven": replace(GEOMETRY, angles=tuple(np.r_[np.linspace(0, 1, 150), np.linspace(1.02, 3.13, 150)])),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_disc_of_one_comes_out_as_one(name: str) -> None:
    geometry = GEOMETRIES[name]
    x = reconstruct(geometry)
    within = x[inside(17.0, geometry)]
    assert within.mean().item() == pytest.approx(1.0, abs=0.005)
    assert within.std() < 0.03
    assert x[~inside(23.0, geometry)].mean().abs() < 0.02


@pytest.mark.parametrize("filter_name", get_args(FilterName))
def test_every_filter_keeps_values(filter_name: FilterName) -> None:
    assert reconstruct(GEOMETRY, filter_name)[inside(15.0)].mean().item() == pytest.approx(1.0, abs=0.01)


def test_filters_go_from_sharp_to_smooth() -> None:
    at_top = [float(ramp_response(64, name)[-1]) for name in get_args(FilterName)]
    assert at_top[0] == pytest.approx(0.5, abs=0.01)
    assert at_top[1] == pytest.approx(at_top[0] * 2 / math.pi)
    assert at_top[2] == pytest.approx(0.0, abs=1e-9)
    assert at_top[3] == pytest.approx(0.08 * at_top[0])
    assert at_top[4] == pytest.approx(0.0, abs=1e-9)


def test_a_missing_wedge_does_not_blow_up() -> None:
    limited = replace(GEOMETRY, angles=tuple(np.radians(np.arange(0, 120, 2.0))))
    weights = angular_weights(limited.angles)
    assert np.allclose(weights, np.radians(2.0))
    x = reconstruct(limited)
    assert x.abs().max() < 2.5
    assert x[inside(17.0)].mean().item() == pytest.approx(2 / 3, abs=0.1)


def test_weights_share_the_half_turn() -> None:
    assert angular_weights(half_turn(7)) == pytest.approx(np.full(7, np.pi / 7))
    assert angular_weights([1.0]) == pytest.approx([np.pi])
    assert angular_weights([0.5, 0.5 + np.pi]) == pytest.approx([np.pi / 2, np.pi / 2])
    both_ends = angular_weights(np.linspace(0, np.pi, 5))
    assert both_ends == pytest.approx(np.pi / 4 * np.array([0.5, 1, 1, 1, 0.5]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_the_same(backend: Backend) -> None:
    geometry = replace(GEOMETRY, angles=half_turn(20))
    y = ellipse_sinogram(DISC, geometry)[None]
    expected = filtered_backprojection(ParallelBeam(geometry, dtype=torch.float64), y)
    got = filtered_backprojection(ParallelBeam(geometry, dtype=torch.float64, backend=backend), y)
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)


def test_bits_do_not_depend_on_the_batch() -> None:
    operator = ParallelBeam(replace(GEOMETRY, angles=half_turn(20)))
    y = torch.rand((9, 20, 115), generator=torch.Generator().manual_seed(0))
    whole = filtered_backprojection(operator, y)
    for z in range(9):
        assert torch.equal(filtered_backprojection(operator, y[z : z + 1])[0], whole[z])


def test_wrong_arguments() -> None:
    operator = ParallelBeam(GEOMETRY)
    with pytest.raises(ValueError, match=r"expected shape \(z, 180, 115\), got \(1, 115, 180\)"):
        filtered_backprojection(operator, torch.zeros(1, 115, 180))
    with pytest.raises(ValueError, match="filter_name is 'ramp'"):
        filtered_backprojection(operator, torch.zeros(1, 180, 115), "ramp")  # type: ignore[arg-type]


def test_agrees_with_scikit_image_on_measured_projections(real_data: Callable[[str], Path]) -> None:
    """Real synchrotron rows, axis off centre: the same picture the same way up."""
    transform = pytest.importorskip("skimage.transform")
    data = np.load(real_data("proj_savu_parallel/projections_parallel.npz"))
    degrees, center = data["angles_deg"][:90], 86.0
    rows = data["line_integrals"][:90, 80:82].transpose(1, 0, 2).astype(np.float32)  # (z, view, detector)
    n = rows.shape[2]
    # Odd size, so that iradon's axis and ours pass through the same pixel.
    geometry = ParallelBeamGeometry((n + 1, n + 1), tuple(np.radians(degrees)), n, 1.0, 1.0, center)
    ours = filtered_backprojection(ParallelBeam(geometry), torch.from_numpy(rows))
    for z in range(2):
        shifted = np.roll(rows[z].T, round(n // 2 - center), axis=0).astype(np.float64)
        shifted = np.pad(shifted, ((0, 1), (0, 0)), mode="edge")
        theirs = transform.iradon(shifted, degrees, filter_name="ramp", circle=True)
        middle = (slice(35, -35), slice(35, -35))
        correlation = np.corrcoef(theirs[middle].ravel(), ours[z].numpy()[middle].ravel())[0, 1]
        slope = np.polyfit(theirs[middle].ravel(), ours[z].numpy()[middle].ravel(), 1)[0]
        assert correlation > 0.98
        assert slope == pytest.approx(1.0, abs=0.03)
        upside_down = np.corrcoef(theirs[::-1][middle].ravel(), ours[z].numpy()[middle].ravel())[0, 1]
        assert upside_down < 0.8


def test_bits_do_not_depend_on_threads() -> None:
    """Nor on the batch: a library's FFT may split its work by threads."""
    A = ParallelBeam(ParallelBeamGeometry.centered((20, 24), tuple(np.arange(16) * np.pi / 16), 32))
    y = torch.randn(12, 16, 32, generator=torch.Generator().manual_seed(0))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found += [filtered_backprojection(A, y), filtered_backprojection(A, y[:5])]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(x[:5], found[0][:5]) for x in found)
