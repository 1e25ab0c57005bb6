"""Sense: contract, the transform's conventions, coils, masks, bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ddip_ray.numerics.conjugate_gradient import cgls
from ddip_ray.operators import LinearOperator, Sense
from ddip_ray.operators.mri.fourier import centring, fourier, fourier_adjoint, plain_fourier
from ddip_ray.testing import OperatorContract, dense_matrix, randn


def mask_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return (randn(shape, torch.float64, seed) > 0).double()


class SenseContract(OperatorContract):
    exact = True
    dtype = torch.complex128

    @pytest.fixture(params=[(1, 6, 6), (3, 4, 6), (2, 5, 7)], ids=str)
    def operator(self, request: pytest.FixtureRequest) -> LinearOperator:
        num_coils, ny, nx = request.param
        return Sense(mask_of((ny, nx)), randn((num_coils, ny, nx), self.dtype, seed=3))


class TestSenseDouble(SenseContract):
    pass


class TestSenseSingle(SenseContract):
    dtype = torch.complex64
    tol = 1e-5


@pytest.mark.parametrize("shape", [(8, 8), (5, 8), (7, 9)])
def test_transform_is_the_centred_unitary_sum(shape: tuple[int, int]) -> None:
    ny, nx = shape
    y, x = np.arange(ny) - ny // 2, np.arange(nx) - nx // 2
    along_y = np.exp(-2j * np.pi * np.outer(y, y) / ny) / math.sqrt(ny)
    along_x = np.exp(-2j * np.pi * np.outer(x, x) / nx) / math.sqrt(nx)
    image = randn((2, *shape), torch.complex128)
    expected = torch.from_numpy(along_y) @ image @ torch.from_numpy(along_x).T
    assert torch.allclose(fourier(image), expected, atol=1e-12)
    assert torch.allclose(fourier_adjoint(fourier(image)), image, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (5, 8), (7, 9)])
def test_centring_is_done_by_phases(shape: tuple[int, int]) -> None:
    before, after = centring(shape, torch.complex128)
    image = randn((2, *shape), torch.complex128)
    assert torch.allclose(after * plain_fourier(before * image), fourier(image), atol=1e-12)


def test_what_the_mask_drops_is_zero_and_the_rest_untouched() -> None:
    maps, mask, x = randn((2, 6, 6), torch.complex128), mask_of((6, 6)), randn((3, 6, 6), torch.complex128)
    everything = Sense(torch.ones(6, 6), maps).forward(x)
    kept = Sense(mask, maps).forward(x)
    assert torch.equal(kept, mask * everything)


@pytest.mark.parametrize("seed", [0, 1])
def test_masks_and_maps_of_each_slice(seed: int) -> None:
    masks, maps = mask_of((3, 6, 5), seed), randn((3, 2, 6, 5), torch.complex64, seed)
    x = randn((3, 6, 5), torch.complex64, seed)
    operator = Sense(masks, maps)
    y = operator.forward(x)
    back = operator.adjoint(y)
    for z in range(3):
        alone = Sense(masks[z], maps[z])
        assert torch.equal(alone.forward(x[z : z + 1])[0], y[z])
        assert torch.equal(alone.adjoint(y[z : z + 1])[0], back[z])
    some = operator.of_slices([2, 0])
    assert torch.equal(some.forward(x[[2, 0]]), y[[2, 0]])
    assert torch.equal(some.adjoint(y[[2, 0]]), back[[2, 0]])
    with pytest.raises(ValueError, match=r"Sense.forward\(x\): expected 3 slices, got 2"):
        operator.forward(x[:2])


@pytest.mark.parametrize("shape", [(32, 32), (31, 45), (128, 196)])
def test_bits_of_a_slice_do_not_depend_on_the_others(shape: tuple[int, int]) -> None:
    operator = Sense(torch.ones(shape), randn((3, *shape), torch.complex64, 1))
    x = randn((5, *shape), torch.complex64, 2)
    y = operator.forward(x)
    back = operator.adjoint(y)
    for start, stop in ((0, 1), (1, 3), (2, 5), (4, 5)):
        assert torch.equal(operator.forward(x[start:stop]), y[start:stop])
        assert torch.equal(operator.adjoint(y[start:stop]), back[start:stop])


def test_cg_finds_the_dense_hermitian_solution() -> None:
    """The published code's inner products do not conjugate, and its CG diverges here."""
    operator = Sense(mask_of((6, 6)), randn((2, 6, 6), torch.complex128, 3))
    A = dense_matrix(operator, torch.complex128)
    x0, y = randn((2, 6, 6), torch.complex128, 4), randn((2, 2, 6, 6), torch.complex128, 5)
    pull = 0.3
    found = cgls(
        lambda x: (operator.forward(x), pull * x),
        lambda r: operator.adjoint(r[0]) + pull * r[1],
        (y, pull * x0),
        100,
        tol=1e-14,
    ).x
    system = A.mH @ A + pull**2 * torch.eye(36)
    right = A.mH @ y.flatten(1).T + pull**2 * x0.flatten(1).T
    assert torch.allclose(found.flatten(1).T, torch.linalg.solve(system, right), atol=1e-10)


def test_shapes_that_disagree_are_named() -> None:
    maps = torch.ones(2, 6, 6, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"sampling_mask of \(6, 5\)"):
        Sense(torch.ones(6, 5), maps)
    with pytest.raises(ValueError, match=r"of \[2, 3\] slices"):
        Sense(torch.ones(2, 6, 6), maps.expand(3, 2, 6, 6))
    with pytest.raises(ValueError, match="expected complex"):
        Sense(torch.ones(6, 6), maps.real)
    with pytest.raises(ValueError, match=r"got shapes \(6,\)"):
        Sense(torch.ones(6), maps)
    with pytest.raises(ValueError, match=r"expected dtype torch\.complex64, got torch\.float32"):
        Sense(torch.ones(6, 6), maps).forward(torch.ones(1, 6, 6))
