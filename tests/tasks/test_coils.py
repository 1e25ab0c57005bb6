"""Coils: white noise, fewer of them, and sensitivities that explain the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddip_ray.config.load import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.errors import InputError
from ddip_ray.io.stores.result import open_result
from ddip_ray.io.stores.schema import SENSITIVITY_MAPS
from ddip_ray.operators.mri import espirit as espirit_module
from ddip_ray.operators.mri.coil_mixing import compression, noise_covariance
from ddip_ray.operators.mri.espirit import espirit
from ddip_ray.tasks.acquire.coils import CoilChoice, mixing, noise_on_grid
from ddip_ray.tasks.acquire.import_mri import KSpaceChoice, import_mri
from ddip_ray.tasks.acquire.measured_kspace import Undersampling
from ddip_ray.tasks.acquire.synthetic_coils import coil_maps

Array = np.ndarray[Any, np.dtype[np.complex64]]


def complex_normal(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]


def scan(size: int = 48, num_coils: int = 6) -> tuple[Array, Array, Array]:
    """Image, maps and k-space (coil, ky, kx) of an ellipse with structure inside."""
    c = np.linspace(-1, 1, size)
    inside = (1.6 * c[:, None] ** 2 + 1.2 * c**2 < 0.8).astype(np.float32)
    image = inside * (0.7 + 0.2 * np.sin(9 * c[:, None] + 4 * c))
    maps = coil_maps(num_coils, range(1), (1, size, size), 0)[0]
    return image, maps, fourier(maps * image)


def fourier(x: Array) -> Array:
    k = np.fft.fft2(np.fft.ifftshift(x, (-2, -1)), norm="ortho")
    return np.fft.fftshift(k, (-2, -1)).astype(np.complex64)


def test_noise_is_estimated_from_the_outermost_samples() -> None:
    y = 0.3 * complex_normal(4, 3, 96, 96)
    y[:, :, 40:56, 40:56] += 50
    assert noise_on_grid(y) == pytest.approx(0.3, rel=0.05)
    y[:, :, ::2] = 0
    assert noise_on_grid(y) == pytest.approx(0.3, rel=0.05)
    y[:, :, :8], y[:, :, -8:], y[..., :8], y[..., -8:] = 0, 0, 0, 0  # k-space that was taken in part
    assert noise_on_grid(y) == pytest.approx(0.3, rel=0.1)
    assert noise_on_grid(np.zeros((1, 1, 8, 8), np.complex64)) == 0


def test_a_noise_scan_makes_noise_equal_and_independent() -> None:
    root = complex_normal(4, 4, seed=1) * np.array([0.1, 1, 3, 0.5])[:, None]
    noise, y = (root @ complex_normal(4, 5000, seed=2)).astype(np.complex64), complex_normal(1, 4, 32, 32)
    mix = mixing(y, CoilChoice(), noise)
    before, after = noise_covariance(noise), noise_covariance(mix.matrix @ noise)
    mean = np.trace(before).real / 4
    np.testing.assert_allclose(after, mean * np.eye(4), atol=1e-3 * mean)
    assert mix.notes == ("noise of the coils made equal and independent, by the noise scan in the file",)
    np.testing.assert_array_equal(mixing(y, CoilChoice(whiten=False), noise)(y), y)
    np.testing.assert_array_equal(mixing(y, CoilChoice())(y), y)
    with pytest.raises(InputError, match="a noise scan of 2 coils with k-space of 4"):
        mixing(y, CoilChoice(), noise[:2])
    np.testing.assert_array_equal(mixing(y, CoilChoice(whiten=False), noise[:2])(y), y)


def test_a_coil_that_is_not_connected_stays_silent() -> None:
    noise = complex_normal(3, 500)
    noise[1] = 0
    y = complex_normal(1, 3, 32, 32)
    y[:, 1] = 0
    mixed = mixing(y, CoilChoice(), noise)(y)
    assert np.abs(mixed[:, 1]).max() < 1e-3 * np.abs(mixed).max()
    np.testing.assert_array_equal(mixing(y, CoilChoice(), np.zeros_like(noise))(y), y)


def test_compression_keeps_what_few_coils_can_hold() -> None:
    sources = complex_normal(2, 2, 16, 16)
    y = np.einsum("dc,zcyx->zdyx", complex_normal(5, 2, seed=1), sources).astype(np.complex64)
    kept, share = compression(y, 2)
    assert share == pytest.approx(1)
    np.testing.assert_allclose(kept @ kept.conj().T, np.eye(2), atol=1e-5)
    choice = mixing(y, CoilChoice(compress_coils=2))
    assert np.linalg.norm(choice(y)) == pytest.approx(np.linalg.norm(y), rel=1e-5)
    assert "5 coils compressed to 2 with 100.00%" in choice.notes[0]
    with pytest.raises(InputError, match="`compress_coils`: found 6, expected 1 to 5"):
        mixing(y, CoilChoice(compress_coils=6))


def test_espirit_finds_the_coils_up_to_a_common_factor() -> None:
    image, maps, k = scan()
    found = espirit(k + 1e-4 * complex_normal(*k.shape), 24)
    total = np.sqrt(np.square(np.abs(maps)).sum(0))
    agreement = np.abs((found.conj() * maps / total).sum(0))  # 1 where they agree
    assert agreement[image > 0].mean() > 0.99
    np.testing.assert_allclose(np.square(np.abs(found)).sum(0), 1, atol=1e-3)


def test_import_keeps_the_maps_and_reconstructs_by_them(tmp_path: Path) -> None:
    image, _, k = scan(64, 8)
    np.save(tmp_path / "k.npy", k[None] + 1e-3 * np.abs(k).max() * complex_normal(1, *k.shape))
    store, output = str(tmp_path / "vol.zarr"), str(tmp_path / "cg.zarr")
    choice = KSpaceChoice(scale=1.0), Undersampling(3.0, calibration=20), None
    acquisition = import_mri(str(tmp_path / "k.npy"), store, *choice)
    assert "sensitivity maps by ESPIRiT" in acquisition.metadata.source.history
    kept = acquisition.read(SENSITIVITY_MAPS, 0, 1)[0]
    np.testing.assert_array_equal(kept, espirit(acquisition.measurements(0, 1)[0], 20))
    reconstruct(store, output, load_config(None, {"method": "cg"}), executor="local")
    x = np.abs(open_result(output).read(0, 1)[0])
    assert np.linalg.norm((x - image)[image > 0]) < 0.05 * np.linalg.norm(image)


@pytest.mark.parametrize(
    ("num_coils", "calibration", "message"),
    [(1, 16, "one coil needs no sensitivity map"), (6, 8, "10 x 10 samples at the centre, ESPIRiT needs 12")],
)
def test_where_espirit_cannot_be(tmp_path: Path, num_coils: int, calibration: int, message: str) -> None:
    np.save(tmp_path / "k.npy", scan()[2][None, :num_coils])
    fewer = Undersampling(3.0, "gaussian2d", calibration)
    words = str(tmp_path / "k.npy"), str(tmp_path / "vol.zarr"), None, fewer
    with pytest.raises(InputError, match=message):
        import_mri(*words, CoilChoice("espirit"))
    assert not (tmp_path / "vol.zarr").exists()
    store = import_mri(*words)
    assert SENSITIVITY_MAPS not in store.names
    assert f"no sensitivity maps ({message})" in store.metadata.source.history


def test_without_sigpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espirit_module.importlib.util, "find_spec", lambda name: None)
    assert espirit_module.espirit_unavailable(8, 24) == "ESPIRiT needs sigpy: pip install 'ddip-ray[mri]'"
