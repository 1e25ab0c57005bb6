"""Simulated k-space: its numbers, its noise, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.schema import SAMPLING_MASK, SENSITIVITY_MAPS, GaussianNoise
from ddip_ray.io.stores.summary import summarize
from ddip_ray.operators import Sense
from ddip_ray.tasks import slices
from ddip_ray.tasks.acquire.kspace_scan import KSpaceScan
from ddip_ray.tasks.acquire.measurement_noise import NoiseRequest
from ddip_ray.tasks.acquire.simulate_mri import parse_pattern, simulate_mri
from ddip_ray.tasks.describe import in_words

SCAN = KSpaceScan("gaussian1d", 2.0, calibration=4, num_coils=3, brightest=1.0)
NOISY = replace(SCAN, noise=NoiseRequest("gaussian", 0.05), seed=3)


def everything(store: Acquisition, name: str) -> np.ndarray:
    return store.read(name, 0, store.num_slices)


def test_samples_are_the_operator_of_the_reference(small_image: Path, tmp_path: Path) -> None:
    store = simulate_mri(str(small_image), str(tmp_path / "vol.zarr"), SCAN)
    x, mask, maps = (everything(store, name) for name in ("reference", SAMPLING_MASK, SENSITIVITY_MAPS))
    np.testing.assert_allclose(np.abs(x), np.load(small_image), atol=1e-6)
    assert np.abs(x.imag).max() > 0.1
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(axis=1), 1, atol=1e-5)
    A = Sense(torch.from_numpy(mask), torch.from_numpy(maps))
    np.testing.assert_allclose(store.measurements(0, 12), A.forward(torch.from_numpy(x)), atol=1e-5)


def test_noise_has_the_stated_size_in_every_slice(small_image: Path, tmp_path: Path) -> None:
    """The published code gives slice k of N noise N − k − 1 times over, and the last slice none."""
    clean = simulate_mri(str(small_image), str(tmp_path / "clean.zarr"), replace(NOISY, noise=SCAN.noise))
    noisy = simulate_mri(str(small_image), str(tmp_path / "noisy.zarr"), NOISY)
    y, mask = clean.measurements(0, 12), everything(clean, SAMPLING_MASK)
    taken = np.broadcast_to(mask[:, None], y.shape)
    noise = noisy.metadata.noise
    assert isinstance(noise, GaussianNoise)
    assert noise.std == pytest.approx(0.05 * np.sqrt((np.abs(y[taken]) ** 2).mean() / 2), rel=1e-5)
    added = noisy.measurements(0, 12) - y
    assert (added[~taken] == 0).all()
    for z in range(12):
        here = added[z][taken[z]]
        assert here.real.std() == pytest.approx(noise.std, rel=0.1)
        assert here.imag.std() == pytest.approx(noise.std, rel=0.1)
    assert np.abs(added[0] - added[1]).max() > noise.std


def test_slabs_leave_no_trace(small_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = replace(NOISY, mask_per_slice=True)
    whole = simulate_mri(str(small_image), str(tmp_path / "whole.zarr"), scan)
    monkeypatch.setattr(slices, "SLAB_BYTES", 1)
    single = simulate_mri(str(small_image), str(tmp_path / "single.zarr"), scan)
    assert whole.metadata == single.metadata
    for name in whole.names:
        np.testing.assert_array_equal(everything(whole, name), everything(single, name))
    masks = everything(whole, SAMPLING_MASK)
    assert (masks[0] != masks[1]).any()


def test_chosen_slices_are_those_of_the_whole_scan(small_image: Path, tmp_path: Path) -> None:
    whole = simulate_mri(str(small_image), str(tmp_path / "whole.zarr"), SCAN)
    part = simulate_mri(str(small_image), str(tmp_path / "part.zarr"), replace(SCAN, slices="4:9"))
    for name in whole.names:
        np.testing.assert_array_equal(part.read(name, 0, 5), whole.read(name, 4, 9))


def test_one_coil_has_no_maps(small_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "vol.zarr"
    store = simulate_mri(str(small_image), str(path), replace(SCAN, num_coils=1))
    assert SENSITIVITY_MAPS not in store.names
    assert summarize(path)["true_acceleration"] == pytest.approx(2.0, rel=0.1)
    assert "1, sensitivity maps not in the store" in in_words(summarize(path))["coils"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acceleration": 0.5}, "`acceleration`: found 0.5"),
        ({"calibration": 21}, "`calibration`: found 21, expected 0 to 20"),
        ({"num_coils": 0}, "`num_coils`: found 0"),
        ({"noise": NoiseRequest("poisson", 1e5)}, "poisson noise counts photons"),
        ({"brightest": -1.0}, "`brightest`: found -1"),
        ({"slices": "7:99"}, "slices: 7:99 does not fit"),
    ],
)
def test_bad_requests_write_nothing(
    small_image: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "vol.zarr"
    with pytest.raises(InputError, match=message):
        simulate_mri(str(small_image), str(path), replace(SCAN, **change))
    assert not path.exists()


def test_unknown_pattern() -> None:
    with pytest.raises(
        InputError, match="`pattern`: found 'star', expected one of full, uniform1d, random1d"
    ):
        parse_pattern("star")


def test_a_store_without_its_mask_is_refused(small_image: Path, tmp_path: Path) -> None:
    import shutil

    path = tmp_path / "vol.zarr"
    simulate_mri(str(small_image), str(path), SCAN)
    shutil.rmtree(path / SAMPLING_MASK)
    with pytest.raises(InputError, match="sampling_mask"):
        open_acquisition(path)
