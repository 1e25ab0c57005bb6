"""The command line answers at once: nothing heavy is imported before a command runs."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("ddip-ray"))
LIMIT_SECONDS = 0.5
HEAVY = ("torch", "ray", "zarr", "tensorstore", "dask", "diffusers", "numba", "scipy", "matplotlib", "numpy")


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


def test_help_imports_nothing_heavy() -> None:
    """The help of every command, in one process; the first heavy import names its page."""
    code = (
        "import sys, typer\n"
        "from ddip_ray_cli.main import app, main\n"
        "pages = [[]]\n"
        "for page in pages:\n"
        "    command = typer.main.get_command(app)\n"
        "    for word in page:\n"
        "        command = command.commands[word]\n"
        "    pages += [[*page, name] for name in getattr(command, 'commands', {})]\n"
        "    assert main([*page, '--help']) == 0\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    assert not heavy, (page, heavy)\n"
        "print('PAGES:', len(pages))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    *pages, last = ended.stdout.splitlines()
    assert last == f"PAGES: {sum(line.startswith('Usage: ddip-ray') for line in pages)}"
    assert int(last.split()[1]) > 20


def test_listing_priors_needs_no_torch() -> None:
    code = (
        "import sys, ddip_ray_cli.main as m\n"
        "assert m.main(['prior', 'list', '--json']) == 0\n"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
