"""How often there is a snapshot."""

from __future__ import annotations

import pytest

from ddip_ray.engine.snapshots.timer import SnapshotTimer
from ddip_ray.errors import InputError


@pytest.mark.parametrize("words", ["", "0", "ten", "1.5", "-3m", "2d"])
def test_intervals_that_are_none(words: str) -> None:
    with pytest.raises(InputError, match="`snapshot_every`: found"):
        SnapshotTimer.every(words)


def test_when_a_snapshot_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    by_time, by_steps = SnapshotTimer.every("1.5m"), SnapshotTimer.every("5")
    now[0] = 89
    assert not by_time.is_due(1)
    now[0] = 91
    assert by_time.is_due(1)
    assert not by_steps.is_due(4)
    assert by_steps.is_due(5)
    by_time.wrote(1, seconds=6.0)  # 3 % of 200
    now[0] = 91 + 199
    assert not by_time.is_due(2)
    now[0] = 91 + 201
    assert by_time.is_due(2)
    assert not SnapshotTimer.every("never").is_due(10**6)
