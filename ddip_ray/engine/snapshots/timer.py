"""When it is time for a snapshot."""

from __future__ import annotations

import re
import time

from ddip_ray.errors import InputError


class SnapshotTimer:
    """Says when a snapshot is due: after so many steps, or so many seconds, at 3 % of the time at most.

    Args:
        num_steps: None: by time.
        seconds: None: by steps. Both None: never.
    """

    SHARE = 0.03

    def __init__(self, num_steps: int | None, seconds: float | None) -> None:
        self.num_steps, self.seconds = num_steps, seconds
        self.last_step, self.last_time, self.cost = 0, time.monotonic(), 0.0

    @classmethod
    def every(cls, words: str) -> SnapshotTimer:
        """From "20" (steps), "90s", "10m", "1.5h" or "never"; InputError for anything else."""
        if words == "never":
            return cls(None, None)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", words)
        if match is None or float(match[1]) <= 0 or not (match[2] or match[1].isdigit()):
            raise InputError(
                f"--snapshot-every: found {words!r}, expected a number of steps, or of s, m or h",
                "For example 20, 90s or 10m; never for none.",
            )
        if not match[2]:
            return cls(int(match[1]), None)
        return cls(None, float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])

    def started(self, step: int) -> None:
        self.last_step, self.last_time = step, time.monotonic()

    def is_due(self, step: int) -> bool:
        if self.num_steps is not None:
            return step - self.last_step >= self.num_steps
        passed = time.monotonic() - self.last_time
        return self.seconds is not None and passed >= max(self.seconds, self.cost / self.SHARE)

    def wrote(self, step: int, seconds: float) -> None:
        self.cost = seconds
        self.started(step)
