"""The rotation centre of sinograms whose centre is known."""

from __future__ import annotations

import numpy as np
import pytest

from ddip_ray.errors import InputError
from ddip_ray.io.projections.line_integrals import open_projections
from ddip_ray.io.projections.rotation_center import estimate_rotation_center, mirrored_pairs


def disks(angles_deg, center, *, num_columns=120, noise=0.0, rng=None):
    """Exact sinograms (z, view, detector) of three disks, other ones in each of two slices."""
    theta = np.deg2rad(angles_deg)[:, None]
    column = np.arange(num_columns)[None]
    sinograms = np.zeros((2, len(angles_deg), num_columns))
    parts = [(0, 10, 5, 14, 1.0), (0, -15, 8, 6, 2.0), (0, 2, -20, 9, 0.7)]
    parts += [(1, -8, -12, 11, 1.0), (1, 20, 3, 7, 1.5)]
    for row, x, y, radius, value in parts:
        offset = column - center - x * np.cos(theta) - y * np.sin(theta)
        sinograms[row] += 2 * value * np.sqrt(np.clip(radius**2 - offset**2, 0, None))
    return sinograms if rng is None else sinograms + noise * rng.standard_normal(sinograms.shape)


@pytest.mark.parametrize("center", [59.5, 63.3, 48.0, 71.77])
def test_mirrored_views(center, rng):
    angles = np.linspace(0, 180, 31)
    found = estimate_rotation_center(disks(angles, center, noise=0.2, rng=rng), angles)
    assert found.method == "mirrored views"
    assert found.column == pytest.approx(center, abs=0.1)


def test_nearly_mirrored_views(rng):
    angles = np.linspace(0, 180, 120, endpoint=False)
    found = estimate_rotation_center(disks(angles, 63.3, noise=0.2, rng=rng), angles)
    assert found.method == "mirrored views"
    assert found.column == pytest.approx(63.3, abs=0.5)


@pytest.mark.parametrize("last", [90, 150])
def test_center_of_mass_without_mirrored_views(last, rng):
    angles = np.linspace(0, last, 40)
    found = estimate_rotation_center(disks(angles, 63.3, noise=0.1, rng=rng), angles)
    assert found.method == "center of mass"
    assert found.column == pytest.approx(63.3, abs=1.0)


def test_pairs_prefer_exact_mirrors():
    assert mirrored_pairs(np.array([0.0, 90.0, 179.0, 180.0])) == [(0, 3)]
    assert mirrored_pairs(np.arange(0.0, 180.0, 1.0)) == [(0, 179)]
    assert mirrored_pairs(np.arange(0.0, 180.0, 6.0)) == []
    assert len(mirrored_pairs(np.arange(0.0, 360.0, 2.0))) == 8


def test_refusals(rng):
    angles = np.linspace(0, 20, 15)
    with pytest.raises(InputError, match=r"20 degrees of views are too few.*by hand"):
        estimate_rotation_center(disks(angles, 60), angles)
    angles = np.linspace(0, 120, 30)
    truncated = disks(angles, 60)
    truncated[:, :, :50] = 0
    with pytest.raises(InputError, match="the object leaves the detector"):
        estimate_rotation_center(truncated, angles)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("proj_savu_parallel/projections_parallel.npz", 86.0), ("proj_tooth_2rows/tooth.h5", 295.5)],
)
def test_real_scans(real_data, name, expected):
    data = open_projections(real_data(name))
    found = estimate_rotation_center(data.line_integrals.compute(), np.array(data.angles_deg))
    assert found.column == pytest.approx(expected, abs=0.5)
