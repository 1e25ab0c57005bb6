"""The command line answers at once: nothing heavy is imported before a command runs."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("ddip-ray"))
LIMIT_SECONDS = 0.5
HEAVY = ("torch", "ray", "zarr", "tensorstore", "dask", "diffusers", "numba", "scipy", "matplotlib", "numpy")
HELP_PAGES = [
    [],
    ["simulate"],
    ["simulate-mri"],
    ["import"],
    ["import-mri"],
    ["reconstruct"],
    ["evaluate"],
    ["compare"],
    ["prior", "train"],
    ["demo"],
    ["doctor"],
]


def _best_seconds(command: list[str], rounds: int = 5) -> float:
    """Processor time, best of several: what else runs on the machine must not fail the test."""
    seconds = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def test_help_is_quick() -> None:
    assert _best_seconds([COMMAND, "--help"]) < LIMIT_SECONDS


def test_import_is_quick() -> None:
    assert _best_seconds([sys.executable, "-c", "import ddip_ray"]) < LIMIT_SECONDS


@pytest.mark.parametrize("words", HELP_PAGES, ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys, ddip_ray_cli.main as m\n"
        f"assert m.main({[*words, '--help']!r}) == 0\n"
        f"print('HEAVY:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines()[-1] == "HEAVY: []"
    assert "Usage: ddip-ray" in printed


def test_listing_priors_needs_no_torch() -> None:
    code = (
        "import sys, ddip_ray_cli.main as m\n"
        "assert m.main(['prior', 'list', '--json']) == 0\n"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
