"""deepinv and ddip-ray use each other's operators and denoisers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Makefile installs it there: its torchvision would be found by diffusers, and fails beside a CPU-only torch.
DEEPINV = Path(sys.prefix) / "deepinv"


def test_physics_in_physics_out_denoiser_in() -> None:
    if not DEEPINV.is_dir():
        pytest.skip(f"deepinv is not installed in {DEEPINV}; `make test` installs it")
    stand_in = Path(__file__).with_name("stand_in")
    search = os.pathsep.join([str(stand_in), str(DEEPINV), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("with_deepinv.py"))],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["physics_in ok", "physics_out ok", "denoiser_in ok"]
