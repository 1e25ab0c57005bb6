"""Views held out: a fair share of every slice, others in neighbours, whatever the slabs."""

from __future__ import annotations

import pytest
import torch

from ddip_ray.errors import InputError
from ddip_ray.solvers.held_out import held_out_views, relative_misfit
from ddip_ray.solvers.slab import Slab


@pytest.mark.parametrize("every", [2, 3, 4, 5])
def test_held_out_views_take_turns_over_the_slices(every: int) -> None:
    whole = held_out_views(Slab(0, 12), 10, every)
    assert whole.shape == (12, 10, 1)
    assert torch.equal(whole[4:9], held_out_views(Slab(4, 9), 10, every))
    share = whole.mean(dim=(1, 2))
    assert share.min() >= 1 / every - 0.1
    assert share.max() <= 1 / every + 0.1
    assert torch.equal(whole[:every].sum(dim=0), torch.ones(10, 1))  # every view judges one of `every` slices
    assert not torch.equal(whole[0], whole[1])


def test_too_few_views_to_hold_out() -> None:
    with pytest.raises(InputError, match="hold_out_every is 1, expected 2 to 5 for 10 views"):
        held_out_views(Slab(0, 4), 10, 1)
    with pytest.raises(InputError, match="hold_out_every is 5, expected 2 to 4 for 9 views"):
        held_out_views(Slab(0, 1), 9, 5)
    with pytest.raises(InputError, match="3 views are too few"):
        held_out_views(Slab(0, 1), 3, 2)


def test_relative_misfit_sees_judged_views_only_and_scales_away() -> None:
    y, estimate = torch.rand(2, 10, 16) + 1, torch.rand(2, 10, 16)
    judged = held_out_views(Slab(0, 2), 10, 5)
    misfit = relative_misfit(y, estimate, judged)
    assert misfit.shape == (2,)
    assert (misfit > 0).all()
    assert torch.equal(misfit, relative_misfit(y + (1 - judged), estimate - (1 - judged), judged))
    torch.testing.assert_close(misfit, relative_misfit(7 * y, 7 * estimate, judged))
    torch.testing.assert_close(relative_misfit(y, 0 * y, judged), torch.ones(2))
