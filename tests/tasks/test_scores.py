"""PSNR and SSIM against scikit-image, in blocks and inside a mask."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ddip_ray.errors import InputError
from ddip_ray.tasks.judge import scores


@pytest.fixture
def pair() -> tuple[scores.Image, scores.Image]:
    generator = np.random.default_rng(0)
    a = generator.uniform(size=(14, 24, 20)).astype(np.float32)
    return a, (a + 0.1 * generator.standard_normal(a.shape)).astype(np.float32)


def _reference_ssim(a: scores.Image, b: scores.Image) -> float:
    value = structural_similarity(
        a.astype(float), b.astype(float), data_range=2.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    return float(value)


def test_psnr(pair: tuple[scores.Image, scores.Image]) -> None:
    a, b = pair
    mse = scores.mean_squared_error(a, b)
    assert mse is not None
    expected = peak_signal_noise_ratio(a.astype(float), b.astype(float), data_range=2.0)
    assert scores.decibels(mse, 2.0) == scores.psnr(a, b, 2.0) == pytest.approx(expected, rel=1e-6)
    assert scores.psnr(a, a) == math.inf


def test_tensors_are_scored_like_arrays(pair: tuple[scores.Image, scores.Image]) -> None:
    a, b = pair
    tensors = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b)
    assert scores.psnr(*tensors) == scores.psnr(a, b)
    assert scores.ssim(*tensors) == scores.ssim(a, b) == scores.mean_ssim(a, b, 1.0)
    assert scores.psnr(tensors[0] * 1j, b) == scores.psnr(a, b)  # the magnitude of a complex image


def test_whole_numbers_do_not_wrap_around() -> None:
    a, b = np.full((3, 4), 0, np.uint8), np.full((3, 4), 255, np.uint8)
    assert scores.psnr(a, b, 255) == 0.0
    assert scores.psnr(b, a, 255) == 0.0


def test_images_that_cannot_be_scored(pair: tuple[scores.Image, scores.Image]) -> None:
    a, b = pair
    with pytest.raises(InputError, match=r"`image` has shape \(13, 24, 20\), `reference` \(14, 24, 20\)"):
        scores.psnr(a[1:], b)
    with pytest.raises(InputError, match="`data_range`: found 0"):
        scores.ssim(a, b, 0)
    with pytest.raises(InputError, match=r"`image`: shape \(2, 24, 20\).*at least 11 pixels"):
        scores.ssim(a[:2], b[:2])


@pytest.mark.parametrize("block_slices", [1, 3, 32])
def test_ssim_is_that_of_scikit_image(
    pair: tuple[scores.Image, scores.Image], block_slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "BLOCK_SLICES", block_slices)
    a, b = pair
    assert scores.mean_ssim(a, b, 2.0) == pytest.approx(_reference_ssim(a, b), rel=1e-9)
    assert scores.mean_ssim(a[3], b[3], 2.0) == pytest.approx(_reference_ssim(a[3], b[3]), rel=1e-9)


def test_planes(pair: tuple[scores.Image, scores.Image]) -> None:
    a, b = pair
    coronal = scores.plane_scores(a, b, 1, 2.0, None)
    assert len(coronal.slice_psnr) == 24
    assert coronal.slice_ssim[7] == pytest.approx(_reference_ssim(a[:, 7], b[:, 7]), rel=1e-9)
    assert coronal.psnr == pytest.approx(np.mean([v for v in coronal.slice_psnr if v is not None]))


def test_mask_hides_what_is_outside(pair: tuple[scores.Image, scores.Image]) -> None:
    a, b = pair
    mask = scores.inscribed_circle((24, 20))
    assert mask.sum() == pytest.approx(math.pi * 10**2, rel=0.03)
    damaged = np.where(mask, b, 100.0).astype(np.float32)
    volume_mask = np.broadcast_to(mask, a.shape)
    assert scores.mean_squared_error(a, damaged, volume_mask) == scores.mean_squared_error(a, b, volume_mask)
    corner = scores.plane_scores(a, b, 1, 2.0, mask)
    assert corner.slice_psnr[0] is None  # the first row of a slice lies outside the circle


def test_thin_volumes_have_no_3d_ssim(pair: tuple[scores.Image, scores.Image]) -> None:
    a, b = pair
    assert scores.mean_ssim(a[:2], b[:2], 1.0) is None
    thin = scores.plane_scores(a[:2], b[:2], 1, 1.0, None)
    assert thin.ssim is None
    assert thin.psnr is not None


def test_slices_of_nothing_but_air_do_not_count(pair: tuple[scores.Image, scores.Image]) -> None:
    """However well they are met, so that a better image of the rest is a better score."""
    a, b = (np.array(volume) for volume in pair)
    b[:, :8] = 0.0
    means = []
    for air in (0.0, 1e-4, 0.1):
        a[:, :8] = air
        coronal = scores.plane_scores(a, b, 1, 2.0, None)
        assert coronal.num_averaged == len(coronal.slice_psnr) - 8
        means.append((coronal.psnr, coronal.ssim))
    assert means[0] == means[1] == means[2]
    inside = scores.plane_scores(a[:, 8:], b[:, 8:], 1, 2.0, None)
    assert (inside.psnr, inside.ssim) == pytest.approx(means[0])


def test_one_perfect_slice_does_not_hide_the_others(pair: tuple[scores.Image, scores.Image]) -> None:
    a, b = pair
    b = b.copy()
    b[0] = a[0]
    axial = scores.plane_scores(a, b, 0, 1.0, None)
    assert axial.slice_psnr[0] == math.inf
    assert axial.psnr is not None
    assert math.isfinite(axial.psnr)
