"""MRI of larger pixels: the same field of view, as much undersampled, in the same way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddip_ray.operators import Sense
from ddip_ray.operators.mri.fourier import fourier, fourier_adjoint
from ddip_ray.operators.mri.sampling_mask import SamplingPattern, sampling_mask
from ddip_ray.operators.mri.sensitivity_maps import calibration_size


def coarse(operator: Sense, k: int) -> Sense:
    """The same scan with pixels k times larger."""
    small = operator.coarse_scan(k).operator
    assert isinstance(small, Sense)
    return small


def small_mask(
    pattern: SamplingPattern, acceleration: float, size: int = 96, k: int = 2
) -> tuple[Tensor, Tensor]:
    mask = torch.from_numpy(sampling_mask(pattern, (size, size), acceleration, 12, 0)).float()
    maps = torch.ones(1, size, size, dtype=torch.complex64)
    return mask, coarse(Sense(mask, maps), k).sampling_mask[0, 0]


@pytest.mark.parametrize("k", [2, 3])
def test_lines_stay_as_far_apart(k: int) -> None:
    mask = torch.zeros(96, 96)
    mask[::4] = 1
    maps = torch.ones(1, 96, 96, dtype=torch.complex64)
    small = coarse(Sense(mask, maps), k).sampling_mask[0, 0]
    assert small.shape == (96 // k, 96 // k)
    lines = torch.nonzero(small[:, 0])[:, 0]
    assert (small[lines] == 1).all()
    assert (lines.diff() == 4).all()
    assert small[96 // k // 2, 0] == 1


@pytest.mark.parametrize(
    "pattern", ["uniform1d", "random1d", "gaussian1d", "gaussian2d", "poisson", "radial"]
)
@pytest.mark.parametrize("acceleration", [2, 4])
def test_as_many_samples_a_pixel(pattern: SamplingPattern, acceleration: float) -> None:
    mask, small = small_mask(pattern, acceleration)
    assert float(small.mean()) == pytest.approx(float(mask.mean()), rel=0.15)
    assert calibration_size(small) >= 5  # 12 of 96 are 6 of 48


def test_columns_are_lines_too() -> None:
    mask = torch.from_numpy(sampling_mask("gaussian1d", (64, 64), 3, 8, 1)).float()
    maps = torch.ones(1, 64, 64, dtype=torch.complex64)
    along_x = coarse(Sense(mask, maps), 2).sampling_mask[0, 0]
    along_y = coarse(Sense(mask.T.contiguous(), maps), 2).sampling_mask[0, 0]
    assert torch.equal(along_x, along_y.T)


def test_maps_are_the_same_at_fewer_pixels_and_normalised() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    maps = torch.stack([torch.exp(-((y - 1) ** 2) + 1j * x), torch.exp(-((x - 1) ** 2) + 0.5j * y)])
    maps = (maps / maps.abs().square().sum(0).sqrt()).to(torch.complex64)
    small = coarse(Sense(torch.ones(64, 64), maps), 2).sensitivity_maps[0]
    assert torch.allclose(small.abs().square().sum(0), torch.ones(32, 32), atol=1e-5)
    centre = fourier(maps)[:, 16:48, 16:48] / 2
    assert torch.allclose(small[:, 8:24, 8:24], fourier_adjoint(centre)[:, 8:24, 8:24], atol=0.05)


def test_maps_of_each_slice_are_refused() -> None:
    maps = torch.ones(3, 1, 8, 8, dtype=torch.complex64)
    with pytest.raises(ValueError, match="one mask or trajectory and one set of maps"):
        coarse(Sense(torch.ones(8, 8), maps), 2)
