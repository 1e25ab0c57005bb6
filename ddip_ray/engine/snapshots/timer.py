"""The timer that says when a snapshot is due."""

from __future__ import annotations

import re
import time

from ddip_ray.errors import InputError


class SnapshotTimer:
    """Says when a snapshot is due: after a number of steps, or after a time.

    Timed snapshots are written less often than asked for if they would take more than 3 % of the time.

    Args:
        num_steps: steps between two snapshots; None: the time decides.
        seconds: time between two snapshots; None: the steps decide. Both None: no snapshots.
    """

    SHARE = 0.03

    def __init__(self, num_steps: int | None, seconds: float | None) -> None:
        self.num_steps, self.seconds = num_steps, seconds
        self.last_step, self.last_time, self.cost = 0, time.monotonic(), 0.0

    @classmethod
    def every(cls, words: str) -> SnapshotTimer:
        """The timer that ``words`` describe: "20" (steps), "90s", "10m", "1.5h" or "never".

        Raises:
            InputError: ``words`` are anything else.
        """
        if words == "never":
            return cls(None, None)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", words)
        if match is None or float(match[1]) <= 0 or not (match[2] or match[1].isdigit()):
            raise InputError(
                f"`snapshot_every`: found {words!r}, expected a number of steps, or of s, m or h",
                'For example "20", "90s" or "10m"; "never" for none.',
            )
        if not match[2]:
            return cls(int(match[1]), None)
        return cls(None, float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])

    def started(self, step: int) -> None:
        """Count from now on: ``step`` steps have been made."""
        self.last_step, self.last_time = step, time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether a snapshot is due after ``step`` steps."""
        if self.num_steps is not None:
            return step - self.last_step >= self.num_steps
        passed = time.monotonic() - self.last_time
        return self.seconds is not None and passed >= max(self.seconds, self.cost / self.SHARE)

    def wrote(self, step: int, seconds: float) -> None:
        """Count from a snapshot after ``step`` steps, which took ``seconds`` to write."""
        self.cost = seconds
        self.started(step)
