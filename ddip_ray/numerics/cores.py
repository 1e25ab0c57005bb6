"""The number of CPU cores that this process may use, which batch jobs and containers limit."""

from __future__ import annotations

import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def own_cores(group: Path = _GROUP) -> int:
    """Return the number of CPU cores that this process may use, at least 1.

    It is limited by the affinity of the process and by the CPU quota of its control group (version 2).
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
