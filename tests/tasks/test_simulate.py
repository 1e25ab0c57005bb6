"""A simulated scan: its numbers, its metadata, and that slabs and failures leave no trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ddip_ray.errors import InputError
from ddip_ray.io.images.open import load_image
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.schema import GaussianNoise
from ddip_ray.problems.parallel_ct import build_operator
from ddip_ray.tasks import slices
from ddip_ray.tasks.acquire.measurement_noise import NoiseRequest
from ddip_ray.tasks.acquire.simulate_ct import ImageChoice, Scan, scan_geometry, simulate

NOISY = Scan(num_views=5, window=(0.0, 1.0), noise=NoiseRequest("gaussian", 0.05), seed=4)


def test_measurements_are_the_operator_of_the_reference(small_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "vol.zarr"
    store = simulate(str(small_image), str(path), Scan(num_views=5, window=(0.0, 1.0)))
    reference = store.reference(0, 12)
    np.testing.assert_allclose(reference, np.load(small_image), atol=1e-6)
    expected = build_operator(store.metadata.acquisition).forward(torch.from_numpy(reference))
    np.testing.assert_array_equal(store.measurements(0, 12), expected.numpy())
    assert store.metadata.acquisition.angles_deg == (0.0, 36.0, 72.0, 108.0, 144.0)
    assert store.metadata.noise.kind == "none"


@pytest.mark.parametrize("window", [(0.2, 0.7), None])
def test_an_image_is_loaded_as_simulation_scales_it(
    small_image: Path, tmp_path: Path, window: tuple[float, float] | None
) -> None:
    store = simulate(str(small_image), str(tmp_path / "vol.zarr"), Scan(num_views=5, window=window))
    image = load_image(small_image, window)
    assert (image.dtype, image.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(image, store.reference())


def test_default_scaling_is_invertible(tmp_path: Path) -> None:
    image = np.random.default_rng(0).gamma(2.0, 300.0, (6, 16, 16)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    store = simulate(str(tmp_path / "image.npy"), str(tmp_path / "vol.zarr"), Scan(num_views=3))
    intensity = store.metadata.intensity
    back = intensity.offset + intensity.scale * store.reference(0, 6)
    np.testing.assert_allclose(back, image, rtol=1e-5, atol=1e-2)


def test_slabs_leave_no_trace(small_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(str(small_image), str(tmp_path / "whole.zarr"), NOISY)
    monkeypatch.setattr(slices, "SLAB_BYTES", 1)
    single = simulate(str(small_image), str(tmp_path / "single.zarr"), NOISY)
    assert whole.metadata == single.metadata
    np.testing.assert_array_equal(whole.measurements(0, 12), single.measurements(0, 12))


def test_noise_is_relative_to_the_root_mean_square(small_image: Path, tmp_path: Path) -> None:
    clean = simulate(str(small_image), str(tmp_path / "clean.zarr"), Scan(num_views=5, window=(0.0, 1.0)))
    noisy = simulate(str(small_image), str(tmp_path / "noisy.zarr"), NOISY)
    y = clean.measurements(0, 12)
    noise = noisy.metadata.noise
    assert isinstance(noise, GaussianNoise)
    assert noise.std == pytest.approx(0.05 * np.sqrt((y.astype(np.float64) ** 2).mean()), rel=1e-6)
    assert (noisy.measurements(0, 12) - y).std() == pytest.approx(noise.std, rel=0.05)


def test_poisson_measurements_are_attenuation(small_image: Path, tmp_path: Path) -> None:
    scan = Scan(num_views=5, window=(0.0, 1.0), noise=NoiseRequest("poisson", 1e9), mu_max=0.02)
    store = simulate(str(small_image), str(tmp_path / "vol.zarr"), scan)
    assert store.metadata.intensity.measurement_scale == 0.02
    line = build_operator(store.metadata.acquisition).forward(torch.from_numpy(store.reference(0, 12)))
    np.testing.assert_allclose(store.measurements(0, 12), 0.02 * line.numpy(), atol=1e-3)


def test_chosen_slices_keep_their_place(tmp_path: Path) -> None:
    import nibabel

    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-10.0, -20.0, 30.0]
    data = np.random.default_rng(1).uniform(size=(10, 8, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "image.nii")
    scan = Scan(num_views=3, slices="2:5")
    store = simulate(str(tmp_path / "image.nii"), str(tmp_path / "vol.zarr"), scan)
    assert store.num_slices == 3
    stored = store.metadata.orientation.affine
    assert stored is not None
    np.testing.assert_allclose(np.array(stored)[:3, 3], [-10.0, -20.0, 36.0])
    assert "slices 2 to 4 of 6" in store.metadata.source.history
    assert store.metadata.acquisition.voxel_mm == (3.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (Scan(num_views=0), "`num_views`"),
        (Scan(num_views=3, angular_range_deg=0), "`angular_range_deg`"),
        (Scan(num_views=3, angular_range_deg=float("nan")), "`angular_range_deg`"),
        (Scan(num_views=3, detector_spacing_mm=-1), "`detector_spacing_mm`"),
        (Scan(num_views=3, num_detectors=0), "`num_detectors`"),
        (Scan(num_views=3, num_detectors=10, rotation_center=12), "`rotation_center`"),
    ],
)
def test_impossible_scans(scan: Scan, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scan_geometry(scan, (20, 24), (1.0, 1.0, 1.0))


def test_pixels_must_be_square(small_image: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="square"):
        simulate(
            str(small_image),
            str(tmp_path / "vol.zarr"),
            Scan(num_views=3),
            image=ImageChoice(voxel_mm=(1.0, 1.0, 2.0)),
        )
    assert list(tmp_path.iterdir()) == []


def test_detector_sees_the_whole_slice() -> None:
    geometry = scan_geometry(Scan(num_views=3, detector_spacing_mm=0.5), (30, 40), (1.0, 2.0, 2.0))
    assert geometry.num_detectors * 0.5 >= np.hypot(60, 80)


def test_failure_leaves_nothing(small_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int, words: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(str(small_image), str(tmp_path / "vol.zarr"), NOISY, report=stop)
    assert list(tmp_path.iterdir()) == []


def test_existing_output_stays(small_image: Path, small_scan: Path) -> None:
    before = open_acquisition(small_scan).metadata
    with pytest.raises(InputError, match="already exists"):
        simulate(str(small_image), str(small_scan), NOISY)
    assert open_acquisition(small_scan).metadata == before
    simulate(str(small_image), str(small_scan), NOISY, overwrite=True)
    assert open_acquisition(small_scan).metadata.noise.kind == "gaussian"
