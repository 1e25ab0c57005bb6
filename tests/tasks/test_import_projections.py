"""Measured projections become an acquisition with what could be found out about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.schema import MeasuredNoise
from ddip_ray.tasks.acquire.import_ct import (
    ImportSettings,
    ProjectionChoice,
    estimate_noise,
    import_projections,
)


@pytest.fixture
def projections(small_scan: Path, tmp_path: Path) -> Path:
    """The small scan as a beam line would write it: transmission (view, row, column) with its angles."""
    store = open_acquisition(small_scan)
    y = store.measurements(0, store.num_slices) * np.float32(0.05)
    y += np.random.default_rng(0).normal(scale=0.01, size=y.shape).astype(np.float32)
    path = tmp_path / "projections.npz"
    angles = np.array(store.metadata.acquisition.angles_deg)
    np.savez(path, transmission=np.exp(-y).transpose(1, 0, 2), angles_deg=angles)
    return path


def test_import(projections: Path, small_scan: Path, tmp_path: Path) -> None:
    progress: list[int] = []
    store = import_projections(
        str(projections),
        str(tmp_path / "vol.zarr"),
        ProjectionChoice(rows=(2, 10)),
        ImportSettings(image_size=24, rotation_center=15.5),
        report=lambda done, total, words: progress.append(done),
    )
    geometry = store.metadata.acquisition
    truth = open_acquisition(small_scan)
    assert (store.num_slices, progress[-1]) == (8, 8)
    assert geometry.image_shape == (24, 24)
    assert geometry.rotation_center == 15.5
    assert geometry.angles_deg == truth.metadata.acquisition.angles_deg
    np.testing.assert_allclose(store.measurements(0, 8), 0.05 * truth.measurements(2, 10), atol=0.06)
    noise = store.metadata.noise
    assert isinstance(noise, MeasuredNoise)
    assert noise.std is not None
    assert 0.008 < noise.std < 0.03  # 0.01, and the edges of a coarse object


def test_every_other_view(projections: Path, tmp_path: Path) -> None:
    store = import_projections(
        str(projections),
        str(tmp_path / "vol.zarr"),
        ProjectionChoice(every_nth_view=2),
        ImportSettings(rotation_center=15.5),
    )
    assert store.metadata.acquisition.num_views == 8


def test_nothing_is_written_for_a_bad_file(projections: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for choice, message in (
        (ProjectionChoice(angles_deg="0:180:1"), "angles"),
        (ProjectionChoice(rows=(5, 50)), "rows"),
        (ProjectionChoice(every_nth_view=0), "every_nth_view"),
    ):
        with pytest.raises(InputError, match=message):
            import_projections(str(projections), str(tmp_path / "vol.zarr"), choice)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("std", [0.0, 0.02, 0.3])
def test_noise_estimate(std: float) -> None:
    ramp = np.linspace(0, 40, 200, dtype=np.float32)
    noise = np.random.default_rng(0).normal(scale=std, size=(4, 30, 200)) if std else 0.0
    assert estimate_noise((ramp + noise).astype(np.float32)) == pytest.approx(std, rel=0.03, abs=1e-5)


def test_noise_of_two_columns_is_unknown() -> None:
    assert estimate_noise(np.ones((1, 3, 2), np.float32)) == 0.0
