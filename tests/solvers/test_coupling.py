"""Slabs together are the volume."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.slice_coupling import SliceCoupling
from ddip_ray.testing import Member, on_workers


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_coupling_is_that_of_the_whole_volume_to_the_bit(sizes: list[int]) -> None:
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    n = edges[-1]
    x = torch.randn(n, 4, 5, generator=torch.Generator().manual_seed(0))
    d = torch.randn(n, 4, 5, generator=torch.Generator().manual_seed(1))
    whole = SliceCoupling(Alone(), Slab(0, n), n)

    def work(slab: Slab, member: Member) -> Tensor:
        own = slice(slab.start, slab.stop)
        coupling = SliceCoupling(member, slab, n)
        forward, adjoint = coupling.difference(x[own]), coupling.difference_adjoint(d[own])
        norms = coupling.norms((x[own], d[own])).expand(len(slab), 4, 5)
        return torch.stack([forward, adjoint, norms], dim=1)

    parts = on_workers(edges, work)
    assert torch.equal(parts[:, 0], whole.difference(x))
    assert torch.equal(parts[:, 1], whole.difference_adjoint(d))
    assert torch.equal(parts[0, 2, 0, 0], whole.norms((x, d))[0])


def test_slice_difference_is_clipped_and_its_adjoint_exact() -> None:
    coupling = SliceCoupling(Alone(), Slab(0, 5), 5)
    x, d = torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(5, 3, 4, dtype=torch.float64)
    assert torch.equal(coupling.difference(x)[:-1], x[1:] - x[:-1])
    assert not coupling.difference(x)[-1].any()
    left, right = (coupling.difference(x) * d).sum(), (x * coupling.difference_adjoint(d)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)


def test_gradient_and_its_adjoint() -> None:
    coupling = SliceCoupling(Alone(), Slab(0, 5), 5)
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    d = list(torch.randn(3, 5, 3, 4, dtype=torch.float64))
    gradient = coupling.gradient(x)
    for axis, along in enumerate(gradient):
        assert torch.equal(along.narrow(axis, 0, x.shape[axis] - 1), x.diff(dim=axis))
        assert not along.select(axis, -1).any()
    left = sum(float((a * b).sum()) for a, b in zip(gradient, d, strict=True))
    assert left == pytest.approx(float((x * coupling.gradient_adjoint(d)).sum()), rel=1e-12)
