"""A Ray cluster to work on: the one that is named, or one of this machine alone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # a private cluster on this machine; a shared one sets its own token
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextlib.contextmanager
def connected(num_cpus: int) -> Iterator[None]:
    """To the cluster at ``RAY_ADDRESS`` or, without one, to a new one of this machine.

    That has ``num_cpus`` or more. Whoever is connected already stays so.
    """
    address = os.environ.get("RAY_ADDRESS")
    for name, value in QUIET.items():
        if name != "RAY_AUTH_MODE" or address is None:
            os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # The object store carries nothing but control messages: no volume passes through it.
        quiet |= {"include_dashboard": False, "object_store_memory": 100 * 2**20}
        quiet["num_cpus"] = max(num_cpus, os.cpu_count() or 1)
    with _own_signal_handlers():
        ray.init(address=address or "local", **quiet)  # not whichever cluster runs on this machine
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Ray takes over SIGTERM, by which clusters warn before they end a job."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
