"""`ray start` where Python has what this program needs, but not the program."""

from __future__ import annotations

import sys
import sysconfig

# Of the environment's own Python: an editable install in it is not followed from outside.
COMMAND = [sys._base_executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
ENVIRONMENT = {
    "PYTHONPATH": sysconfig.get_path("purelib"),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}
FLAGS = ["--object-store-memory=100000000"]
HEAD_FLAGS = ["--head", "--include-dashboard=false"]
