"""How a command ends: a mistake is 2, an interruption 130, and a crash is never mistaken for success."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ddip_ray_cli import main as wiring
from ddip_ray_cli.main import main

from ddip_ray.errors import InputError

COMMAND = str(Path(sys.executable).with_name("ddip-ray"))


def test_crash_is_a_traceback_and_1() -> None:
    code = (
        "import ddip_ray.tasks.describe as d, sys\n"
        "d.describe = lambda path: 1 / 0\n"
        "sys.argv = ['ddip-ray', 'info', 'x']\n"
        "import ddip_ray_cli.main as m; m.run()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr


def test_mistake_is_2_without_traceback() -> None:
    ended = subprocess.run([COMMAND, "info", "no.zarr"], check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  hint: ")
    assert len(lines) == 2


def test_debug_shows_where() -> None:
    for words in (["--debug", "info", "no.zarr"], ["info", "no.zarr", "--debug"]):
        with pytest.raises(InputError):
            main(words)


def test_interruption_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import ddip_ray.tasks.describe

    def interrupt(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ddip_ray.tasks.describe, "describe", interrupt)
    assert main(["info", "x"]) == wiring.EXIT_INTERRUPTED
    assert capsys.readouterr().err.strip() == "interrupted"


def test_output_can_be_piped_away() -> None:
    ended = subprocess.run(
        f"{COMMAND} --help | head -1", shell=True, check=True, capture_output=True, text=True
    )
    assert ended.stderr == ""
