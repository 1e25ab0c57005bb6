"""`ddip-ray doctor`: what it prints, for people and for programs, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ddip_ray_cli.commands.doctor import in_words, merged
from ddip_ray_cli.main import main

from ddip_ray.doctor import checkup
from ddip_ray.doctor.findings import Finding, Status
from ddip_ray.io import paths

FINE = [Finding("prior", f"n{i}", Status.PASS, "default can be loaded") for i in range(5)]
SKEWED = Finding(
    "clock", "n3", Status.WARN, "5.000 s ahead of ours", "Let all nodes set their clocks by NTP."
)
BLOCKED = Finding("network", "n1 to n2", Status.FAIL, "10.0.0.2: timed out", "Let all TCP ports through.")


def test_what_was_found_of_many_nodes_is_one_row() -> None:
    assert [row[1] for row in merged([*FINE, SKEWED])] == ["n0, n1, n2 and 2 more", "n3"]


def test_a_table_with_what_to_do() -> None:
    assert in_words([*FINE, SKEWED, BLOCKED]).splitlines() == [
        "check    where                        found",
        "prior    n0, n1, n2 and 2 more  pass  default can be loaded",
        "clock    n3                     warn  5.000 s ahead of ours",
        "network  n1 to n2               fail  10.0.0.2: timed out",
        "",
        "to do:",
        "  clock, n3: Let all nodes set their clocks by NTP.",
        "  network, n1 to n2: Let all TCP ports through.",
        "",
        "5 passed, 1 warnings, 1 failed",
    ]


@pytest.mark.parametrize(
    ("findings", "code"), [(FINE, 0), ([*FINE, SKEWED], 0), ([*FINE, SKEWED, BLOCKED], 1)]
)
def test_exit_code(
    findings: list[Finding], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkup, "check_cluster", lambda *_: findings)
    assert main(["doctor", "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert [item["status"] for item in found] == [finding.status.value for finding in findings]
    assert set(found[0]) == {"check", "where", "status", "found", "fix"}


def test_this_machine(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a folder, and a part of a bucket."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["doctor", "--storage", str(tmp_path), "--storage", f"{s3}/doctor"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    assert "1 alive, with " in said.out
    assert f"{tmp_path}: writable, the same for all" in said.out
    assert ", 0 failed\n" in said.out
    assert f"{s3}/doctor: writable, the same for all\n" in said.out
    assert list(tmp_path.iterdir()) == []
    assert paths.list_keys(f"{s3}/doctor") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cluster", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        (["--gpus", "0"], "Invalid value for '--gpus'"),
        (["--storage", "ftp://host/x"], "cannot open ftp:// paths"),
    ],
)
def test_bad_input(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # set back afterwards
    assert main(["doctor", *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
