"""How a command ends: a mistake is 2, an interruption 130, and a crash is never mistaken for success."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from ddip_ray_cli import main as wiring
from ddip_ray_cli.main import main

from ddip_ray.errors import InputError

COMMAND = str(Path(sys.executable).with_name("ddip-ray"))


def test_crash_is_a_traceback_and_1() -> None:
    code = (
        "import ddip_ray.io.stores.summary as s, sys\n"
        "s.summarize = lambda path: 1 / 0\n"
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
    from ddip_ray.io.stores import summary

    def interrupt(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(summary, "summarize", interrupt)
    assert main(["info", "x"]) == wiring.EXIT_INTERRUPTED
    assert capsys.readouterr().err.strip() == "interrupted"


def test_output_can_be_piped_away() -> None:
    ended = subprocess.run(
        f"{COMMAND} --help | head -1", shell=True, check=True, capture_output=True, text=True
    )
    assert ended.stderr == ""


def test_an_old_key_is_a_warning_of_one_line(
    small_scan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_scan.parent)
    Path("run.yaml").write_text("sampler: {quiet_t: 50}\nmethod: fbp\n")
    words = ["reconstruct", str(small_scan), "--config", "run.yaml", "--workers", "1", "--overwrite"]
    for _ in range(2):  # each command line says it, and says it once
        assert main(words) == 0
        first, *others = capsys.readouterr().err.splitlines()
        assert first == (
            "warning: configuration run.yaml: sampler.quiet_t is now called sampler.noise_free_below_t"
        )
        assert not any("warning" in line.lower() for line in others)


def test_other_warnings_stay_as_python_shows_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddip_ray.io.stores import summary

    def warn(path: str) -> None:
        warnings.warn("configuration of something else", UserWarning, stacklevel=1)
        raise InputError("done")

    monkeypatch.setattr(summary, "summarize", warn)
    with pytest.warns(UserWarning, match="configuration of something else"):
        assert main(["info", "x"]) == wiring.EXIT_INPUT_ERROR
    assert capsys.readouterr().err == "error: done\n"
