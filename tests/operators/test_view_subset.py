"""An operator with fewer views is still an operator: contract, and what it reads."""

from __future__ import annotations

import math

import pytest
import torch
from operator_contract import assert_adjoint, randn

from ddip_ray.operators import LinearOperator, ParallelBeam, ParallelBeamGeometry, ViewSubset


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_a_view_subset_reads_the_views_it_keeps(dtype: torch.dtype, tol: float) -> None:
    angles = [math.pi * i / 6 for i in range(6)]
    operator = ParallelBeam(ParallelBeamGeometry.centered((8, 9), angles, 13), dtype=dtype)
    keep = (randn((2, 6, 1), dtype) > 0).to(dtype)
    assert 0 < keep.mean() < 1
    subset = ViewSubset(operator, keep)
    assert isinstance(subset, LinearOperator)
    assert_adjoint(subset, dtype, tol, num_slices=2)
    x = randn((2, 8, 9), dtype)
    kept = keep.bool().expand(2, 6, 13)
    assert torch.equal(subset.forward(x)[kept], operator.forward(x)[kept])
    assert not subset.forward(x)[~kept].any()
