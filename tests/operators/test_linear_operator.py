"""The base class by itself: an operator of a few lines, its algebra, masks, and what it cannot answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.operators import LinearOperator, Masked, NonCartesianSense, ParallelBeam, Sense
from ddip_ray.testing import OperatorContract, dense_matrix, randn


class Matrix(LinearOperator):
    """What a user would write."""

    def __init__(self, matrix: Tensor, image_shape: tuple[int, ...]) -> None:
        super().__init__(image_shape, matrix.shape[:1], dtype=matrix.dtype)
        self.matrix = matrix

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.conj()).unflatten(1, self.image_shape)


def matrix(dtype: torch.dtype = torch.float64) -> Matrix:
    return Matrix(randn((5, 12), dtype), (3, 4))


def sense(num_maps: int | None = None) -> Sense:
    maps = randn((2, 4, 6) if num_maps is None else (num_maps, 2, 4, 6), torch.complex128, seed=3)
    return Sense((randn((4, 6), torch.float64) > 0).double(), maps)


class TestOwnOperator(OperatorContract):
    @pytest.fixture
    def operator(self) -> LinearOperator:
        return matrix()


class TestAlgebra(OperatorContract):
    dtype = torch.complex128

    @pytest.fixture(params=["H", "gram", "composition", "gram_of_masked"])
    def operator(self, request: pytest.FixtureRequest) -> LinearOperator:
        A = sense()
        masked = Masked(A, (randn((3, 1, 4, 6), torch.float64, 1) > 0).double())
        operators = {"H": A.H, "gram": A.gram, "gram_of_masked": masked.gram}
        return operators.get(request.param) or Matrix(randn((5, 24), self.dtype), (4, 6)) @ A.gram


class TestMaskOfEachSlice(OperatorContract):
    @pytest.fixture
    def operator(self) -> LinearOperator:
        A = ParallelBeam.equispaced((5, 6), 4, dtype=torch.float64)
        return Masked(A, (randn((3, 4, 1), torch.float64, 1) > -0.5).double())


class TestOneMask(OperatorContract):
    dtype = torch.complex128

    @pytest.fixture(params=[None, 3])
    def operator(self, request: pytest.FixtureRequest) -> LinearOperator:
        return Masked(sense(request.param), (randn((1, 4, 6), torch.float64, 1) > 0).double())


def test_a_composition_applies_the_second_first() -> None:
    A, B = Matrix(randn((4, 5), torch.float64), (5,)), matrix()
    x = randn((2, 3, 4), torch.float64)
    assert torch.equal((A @ B)(x), A(B(x)))
    found = dense_matrix(A @ B, torch.float64)
    assert torch.allclose(found, A.matrix @ B.matrix, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"Matrix @ Matrix: .* shape \(3, 4\), .* shape \(4,\),"):
        _ = B @ A


def test_norms() -> None:
    A = matrix()
    assert A.norm() == pytest.approx(float(torch.linalg.matrix_norm(A.matrix, 2)), rel=0.02)
    assert A.gram.norm() == pytest.approx(A.norm() ** 2)
    mask = torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)
    assert Masked(A, mask).norm() == A.norm()  # an upper bound


def test_the_norm_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    A, found = matrix(), []
    monkeypatch.setattr("ddip_ray.operators.base.operator_norm", lambda *_, **__: found.append(1) or 2.0)
    assert (A.norm(), A.norm(), A.H.norm(), len(found)) == (2.0, 2.0, 2.0, 1)


@pytest.mark.parametrize("has_maps_of_each_slice", [False, True])
def test_normalised_coils_have_norm_one(has_maps_of_each_slice: bool) -> None:
    maps = randn((3, 2, 4, 6), torch.complex64)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    maps[:, :, 0, 0] = 0  # where no coil sees
    maps = maps if has_maps_of_each_slice else maps[0]
    assert Sense(torch.ones(4, 6), maps).norm() == 1.0
    assert Sense(torch.ones(4, 6), 2 * maps).norm() == pytest.approx(2.0, rel=1e-3)


def test_slices_of_an_operator_have_a_norm_of_their_own() -> None:
    maps = randn((2, 1, 4, 6), torch.complex128)
    A = Sense(torch.ones(4, 6), torch.stack([maps[0], 5 * maps[1]]))
    large = A.norm()
    small = A.of_slices([0]).norm()
    assert large > 2 * small
    assert small == pytest.approx(
        float(torch.linalg.matrix_norm(dense_matrix(A, torch.complex128), 2)), rel=0.1
    )


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("hold_out", lambda A: A.hold_out(0.1, 0)),
        ("coarse_scan", lambda A: A.coarse_scan(2)),
        ("direct_inverse", lambda A: A.direct_inverse(torch.zeros(1, 5))),
    ],
)
def test_what_an_operator_cannot_answer(method: str, call: Callable[[LinearOperator], object]) -> None:
    with pytest.raises(InputError, match=rf"Matrix\.{method}: it "):
        call(matrix())


def test_slices_that_differ_must_be_told_apart() -> None:
    A = matrix()
    A.num_slices = 3
    with pytest.raises(InputError, match=r"Matrix\.of_slices: its slices differ"):
        A.of_slices([0])


def test_filters_are_for_operators_that_filter() -> None:
    A = ParallelBeam.equispaced((8, 8), 6)
    y = torch.ones(1, *A.measurement_shape)
    assert not torch.equal(A.direct_inverse(y), A.direct_inverse(y, "hann"))
    path, maps = torch.zeros(1, 3, 2), torch.ones(1, 4, 6, dtype=torch.complex64)
    for B in (Sense(torch.ones(4, 6), maps), NonCartesianSense(path, maps)):
        with pytest.raises(ValueError, match="filter_name is 'hann', expected None"):
            B.direct_inverse(torch.zeros(1, *B.measurement_shape, dtype=torch.complex64), "hann")
