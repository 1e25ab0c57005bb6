"""Simulated noise: right size, keyed by slice, honest about what it needs."""

from __future__ import annotations

import numpy as np
import pytest

from ddip_ray.errors import InputError
from ddip_ray.io.stores.schema import GaussianNoise, Intensity, NoNoise, PoissonNoise
from ddip_ray.tasks.acquire.measurement_noise import (
    NoiseRequest,
    add_noise,
    attenuation_of_one,
    describe_noise,
    noise_energy,
    parse_noise,
)

GAUSSIAN = GaussianNoise(relative_std=0.1, std=0.5, seed=3)
POISSON = PoissonNoise(photons=1000.0, seed=3)


def test_parsing() -> None:
    assert parse_noise("none") == NoiseRequest()
    assert parse_noise("gaussian:0.01") == NoiseRequest("gaussian", 0.01)
    assert parse_noise("poisson:1e5") == NoiseRequest("poisson", 1e5)


@pytest.mark.parametrize("text", ["gauss:0.1", "gaussian", "gaussian:x", "gaussian:-1", "poisson:inf", ""])
def test_parsing_refuses(text: str) -> None:
    with pytest.raises(InputError, match="`noise`"):
        parse_noise(text)


@pytest.mark.parametrize("noise", [GAUSSIAN, POISSON])
def test_slabs_leave_no_trace(noise: GaussianNoise | PoissonNoise) -> None:
    clean = np.random.default_rng(0).uniform(0, 2, (6, 5, 7)).astype(np.float32)
    whole = add_noise(clean, noise, 10)
    parts = [
        add_noise(clean[:1], noise, 10),
        add_noise(clean[1:4], noise, 11),
        add_noise(clean[4:], noise, 14),
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole[0] - clean[0], whole[1] - clean[1])


def test_gaussian_has_the_recorded_std() -> None:
    noise = describe_noise(NoiseRequest("gaussian", 0.1), std=0.5, seed=3)
    assert noise == GAUSSIAN
    drawn = add_noise(np.zeros((20, 50, 60), np.float32), noise, 0)
    assert drawn.dtype == np.float32
    assert drawn.std() == pytest.approx(0.5, rel=0.01)


def test_poisson_counts() -> None:
    line_integral = 1.0
    noisy = add_noise(np.full((20, 50, 60), line_integral, np.float32), POISSON, 0)
    assert noisy.mean() == pytest.approx(line_integral, abs=3e-3)
    # standard deviation of -log(N): 1 / sqrt(E N)
    assert noisy.std() == pytest.approx(1 / np.sqrt(1000 * np.exp(-line_integral)), rel=0.02)


def test_no_photon_is_not_infinite() -> None:
    noisy = add_noise(np.full((1, 4, 4), 50.0, np.float32), POISSON, 0)
    np.testing.assert_allclose(noisy, np.log(1000 / 0.5), rtol=1e-6)


def test_without_noise_nothing_changes() -> None:
    clean = np.ones((2, 3, 4), np.float32)
    assert add_noise(clean, NoNoise(), 0) is clean


def test_attenuation() -> None:
    hounsfield = Intensity(offset=-1000, scale=2000, unit="HU")
    assert attenuation_of_one(hounsfield, None) == pytest.approx(0.039)
    assert attenuation_of_one(Intensity(scale=0.03, unit="1/mm"), None) == 0.03
    assert attenuation_of_one(Intensity(), 0.02) == 0.02
    with pytest.raises(InputError, match="attenuates is unknown"):
        attenuation_of_one(Intensity(), None)
    with pytest.raises(InputError, match="`mu_max`"):
        attenuation_of_one(Intensity(), -1.0)


@pytest.mark.parametrize("request_", [NoiseRequest("gaussian", 0.05), NoiseRequest("poisson", 2e4)])
def test_recorded_std_is_that_of_the_noise(request_: NoiseRequest) -> None:
    clean = np.linspace(0, 3, 4 * 50 * 60, dtype=np.float32).reshape(4, 50, 60)
    std = float(np.sqrt(noise_energy(request_, clean) / clean.size))
    noisy = add_noise(clean, describe_noise(request_, std, seed=1), start=0)
    assert float(np.std(noisy - clean)) == pytest.approx(std, rel=0.03)
