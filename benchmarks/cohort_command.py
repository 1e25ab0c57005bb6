"""`ddip-ray cohort` as benchmarks call it, and what its ledger says afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.io.stores.result import open_result
from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate
from ddip_ray.tasks.cohort.ledger import Ledger

COMMAND = [sys.executable, "-c", "import sys; from ddip_ray_cli.main import run; sys.exit(run())"]


def call(words: list[str]) -> int:
    return subprocess.run([*COMMAND, *words], check=False).returncode


def status(out: Path) -> dict[str, dict[str, Any]]:
    """Of each volume what the ledger has, and how long its steps took if it is done."""
    entries = {entry.name: vars(entry) for entry in Ledger(out).entries()}
    for entry in entries.values():
        if entry["state"] == "done":
            made: Any = open_result(entry["output"]).provenance
            entry["step_seconds"] = made["seconds"]["steps"]
    found: dict[str, dict[str, Any]] = json.loads(json.dumps(entries))
    return found


def scan_ct(volume: NDArray[np.float32], store: Path, num_views: int = 30) -> None:
    """A clean scan of ``volume: (z, y, x)`` in HU."""
    path = store.with_suffix(".npy")
    np.save(path, volume)
    simulate(str(path), str(store), Scan(num_views, window=(-1000.0, 1000.0)))
    path.unlink()
