"""Records of a state: rows go with their slices, on the same workers or on others."""

from __future__ import annotations

import pytest
import torch

from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Record, Recorder, SliceRows
from ddip_ray.solvers.sampling.sampler import SamplerState


def test_rows_go_with_their_slices() -> None:
    x = torch.arange(6.0).reshape(6, 1)  # of the slices 2 to 7
    joined = Record.joined(
        [Record({"x": SliceRows(Slab(2, 3), x[:1])}), Record({"x": SliceRows(Slab(3, 8), x[1:])})]
    ).slices["x"]
    assert torch.equal(joined.of(Slab(4, 6)), x[2:4])
    assert joined.of(Slab(9, 9)).shape == (0, 1)
    with pytest.raises(RuntimeError, match="asked for"):
        joined.of(Slab(4, 9))


def test_records_with_a_gap() -> None:
    with pytest.raises(RuntimeError, match="no neighbours"):
        Record.joined([Record({"x": SliceRows(Slab(z, z + 1), torch.zeros(1))}) for z in (0, 2)])


def test_what_was_not_recorded_is_missed() -> None:
    with pytest.raises(RuntimeError, match=r"lacks sampler\.x_t"):
        Recorder(Record(), restoring=True).within("sampler").slices("x_t", torch.zeros(1), Slab(0, 1))


def test_a_sampler_state_comes_back_with_all_that_it_carries() -> None:
    x, slab, record = torch.arange(3.0).reshape(3, 1, 1), Slab(2, 5), Record()
    state = SamplerState(x, x + 1, {"last_correction": x + 2, "dual": x + 3})
    state.save_or_restore(Recorder(record).within("sampler"), slab)
    recorder = Recorder(record, restoring=True)
    restored = SamplerState(0 * x, 0 * x).save_or_restore(recorder.within("sampler"), Slab(3, 5))
    assert torch.equal(restored.x_t, x[1:])
    assert torch.equal(restored.x0, x[1:] + 1)
    assert {name: tensor.tolist() for name, tensor in restored.carried.items()} == {
        "last_correction": (x[1:] + 2).tolist(),
        "dual": (x[1:] + 3).tolist(),
    }
    # Snapshots of earlier versions have these names.
    assert set(record.slices) == {f"sampler.{name}" for name in ("x_t", "x0", "added", "dual")}
