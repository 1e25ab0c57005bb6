"""NonCartesianSense: contract, agreement with Sense on the grid, gridding, the Cartesian centre."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ddip_ray.operators import LinearOperator, NonCartesianSense, Sense
from ddip_ray.operators.mri.fourier import fourier
from ddip_ray.operators.mri.kspace_centre import cartesian_centre, centre_size
from ddip_ray.operators.mri.sensitivity_maps import central_square
from ddip_ray.testing import OperatorContract, randn


def path(num_readouts: int, num_samples: int, seed: int = 0) -> Tensor:
    return torch.rand(num_readouts, num_samples, 2, generator=torch.Generator().manual_seed(seed)) - 0.5


def spokes(num_spokes: int, num_samples: int) -> Tensor:
    """Radial, through the centre."""
    angles = torch.arange(num_spokes)[:, None] * math.pi / num_spokes
    along = (torch.arange(num_samples) - num_samples // 2) / num_samples
    return torch.stack([along * angles.sin(), along * angles.cos()], dim=-1)


def body(ny: int, nx: int) -> Tensor:
    """A smooth object within the field of view."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, ny), torch.linspace(-1, 1, nx), indexing="ij")
    image = torch.exp(-6 * ((y - 0.1) ** 2 + 1.5 * x**2)) - 0.5 * torch.exp(-30 * ((y + 0.2) ** 2 + x**2))
    return image.to(torch.complex64)


class NonCartesianContract(OperatorContract):
    exact = True
    dtype = torch.complex128

    @pytest.fixture(params=[(1, 6, 6), (3, 4, 6), (2, 5, 7)], ids=str)
    def operator(self, request: pytest.FixtureRequest) -> LinearOperator:
        num_coils, ny, nx = request.param
        mask = torch.ones(4, 5)
        mask[1, 2:] = 0
        return NonCartesianSense(path(4, 5), randn((num_coils, ny, nx), self.dtype, seed=3), mask)


class TestNonCartesianDouble(NonCartesianContract):
    pass


class TestNonCartesianSingle(NonCartesianContract):
    dtype = torch.complex64
    tol = 1e-5


@pytest.mark.parametrize("shape", [(8, 6), (7, 9)])
def test_on_the_cartesian_grid_it_is_sense(shape: tuple[int, int]) -> None:
    ny, nx = shape
    maps, x = randn((3, ny, nx), torch.complex128, 1), randn((2, ny, nx), torch.complex128, 2)
    rows, columns = ((torch.arange(n, dtype=torch.float64) - n // 2) / n for n in shape)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    expected = Sense(torch.ones(shape), maps).forward(x)
    torch.testing.assert_close(NonCartesianSense(grid, maps).forward(x), expected, atol=1e-11, rtol=0)


def test_paths_and_maps_of_each_slice() -> None:
    paths = torch.stack([path(3, 4, seed) for seed in range(3)])
    maps, x = randn((3, 2, 6, 5), torch.complex64, 1), randn((3, 6, 5), torch.complex64, 2)
    operator = NonCartesianSense(paths, maps)
    y = operator.forward(x)
    back = operator.adjoint(y)
    for z in range(3):
        alone = NonCartesianSense(paths[z], maps[z])
        assert torch.equal(alone.forward(x[z : z + 1])[0], y[z])
        assert torch.equal(alone.adjoint(y[z : z + 1])[0], back[z])
    some = operator.of_slices([2, 0])
    assert torch.equal(some.forward(x[[2, 0]]), y[[2, 0]])
    assert torch.equal(some.adjoint(y[[2, 0]]), back[[2, 0]])
    with pytest.raises(ValueError, match=r"NonCartesianSense.forward\(x\): expected 3 slices, got 2"):
        operator.forward(x[:2])


def test_bits_of_a_slice_do_not_depend_on_the_others() -> None:
    operator = NonCartesianSense(path(20, 50), randn((3, 32, 30), torch.complex64, 1))
    x = randn((5, 32, 30), torch.complex64, 2)
    y = operator.forward(x)
    assert torch.equal(operator.forward(x[1:3]), y[1:3])
    assert torch.equal(operator.adjoint(y[4:]), operator.adjoint(y)[4:])


def test_gridding_shows_a_well_sampled_image() -> None:
    """Spokes at the Nyquist distance, and one of several slices."""
    x = torch.stack([body(48, 40), 0.5 * body(48, 40)])
    operator = NonCartesianSense(spokes(80, 96), torch.ones(1, 48, 40, dtype=torch.complex64))
    found = operator.direct_inverse(operator.forward(x))
    assert float((found - x).norm() / x.norm()) < 0.03
    plain = operator.adjoint(operator.forward(x))
    assert float((plain - x).norm() / x.norm()) > 1  # without weights the centre is all there is


@pytest.mark.parametrize("shape", [(48, 40), (33, 35)])
def test_the_centre_is_what_cartesian_samples_would_have_shown(shape: tuple[int, int]) -> None:
    coils = torch.stack([body(*shape), body(*shape).flip(1) * 1j])
    trajectory = spokes(40, 96)
    one = torch.ones(1, *shape, dtype=torch.complex64)
    y = NonCartesianSense(trajectory, one).forward(coils)[:, 0]
    size = centre_size(trajectory, shape)
    assert 12 <= size <= 24
    found, expected = cartesian_centre(trajectory, y, shape, size), fourier(coils)
    inner, truth = central_square(found, size), central_square(expected, size)
    assert float((inner - truth).norm() / truth.norm()) < 0.02
    inner.zero_()
    assert not found.any()


def test_a_centre_that_nothing_visits() -> None:
    trajectory = torch.full((2, 8, 2), 0.3)
    assert centre_size(trajectory, (16, 16)) == 0
    assert not cartesian_centre(trajectory, torch.ones(3, 2, 8, dtype=torch.complex64), (16, 16), 0).any()


def test_shapes_that_disagree_are_named() -> None:
    maps = torch.ones(2, 6, 6, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"got shapes \(4, 5\) and \(2, 6, 6\)"):
        NonCartesianSense(torch.ones(4, 5), maps)
    with pytest.raises(ValueError, match=r"sampling_mask of \(4, 4\)"):
        NonCartesianSense(path(4, 5), maps, torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"of \[2, 3\] slices"):
        NonCartesianSense(path(4, 5).expand(2, 4, 5, 2), maps.expand(3, 2, 6, 6))
    with pytest.raises(ValueError, match="expected complex"):
        NonCartesianSense(path(4, 5), maps.real)
    with pytest.raises(ValueError, match=r"expected dtype torch\.complex64, got torch\.float32"):
        NonCartesianSense(path(4, 5), maps).forward(torch.ones(1, 6, 6))
    assert np.prod(NonCartesianSense(path(4, 5), maps).measurement_shape) == 40
