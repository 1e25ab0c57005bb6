"""Small formatting, and progress on a terminal and off it."""

from __future__ import annotations

import json
import math
import sys

import pytest
from ddip_ray_cli import output


def test_json_has_no_infinities(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": math.inf, "b": [math.nan, 1.5], "c": {"d": (2, "μ")}})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": None, "b": [None, 1.5], "c": {"d": [2, "μ"]}}
    assert "μ" in printed


def test_table() -> None:
    rows = [["name", "dB"], ["fbp", "9.10"], ["d3ip", "31.20"]]
    assert output.format_table(rows, right=(1,)) == "name     dB\nfbp    9.10\nd3ip  31.20"


def test_fields() -> None:
    assert output.format_fields({"a": "1", "long": "2\n3"}) == "a     1\nlong  2\n      3"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (67, "1:07"), (3723, "1:02:03")])
def test_seconds(seconds: float, text: str) -> None:
    assert output.format_seconds(seconds) == text


def test_log_lines_are_few(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(output.time, "monotonic", lambda: now)
    with output.progress("d3ip") as report:
        for step in range(1, 51):
            now += 1.0
            report(step, 50, f"residual {1 / step:.2f}")
    lines = capsys.readouterr().err.splitlines()
    assert 8 <= len(lines) <= 13
    assert lines[0] == "d3ip 1/50  residual 1.00"
    assert lines[-1] == "d3ip 50/50  residual 0.02"


def test_slow_steps_are_all_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(output.time, "monotonic", lambda: now)
    with output.progress("d3ip") as report:
        for step in range(1, 6):
            now += 60.0
            report(step, 1000, "")
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with output.progress("d3ip") as report:
        report(1, 2, "residual 0.5")
        report(2, 2, "residual 0.1")
    assert capsys.readouterr().out == ""
