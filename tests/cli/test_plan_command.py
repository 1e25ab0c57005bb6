"""`ddip-ray plan`: what will be needed, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ddip_ray_cli.main import main

from ddip_ray.engine.ray import resources


def plan(store: Path, prior: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["plan", str(store), "--prior", str(prior), *flags]) == 0
    return capsys.readouterr().out


def test_a_plan(small_scan: Path, untrained_prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = plan(small_scan, untrained_prior, capsys, "--method", "d3ip", "--workers", "2")
    assert "2 CPU workers, slices 0 to 5, 6 to 11" in said
    assert "for each update of the adapter" in said
    assert "time      about " in said
    assert f"next: ddip-ray reconstruct {small_scan}" in said
    found = json.loads(plan(small_scan, untrained_prior, capsys, "--workers", "2", "--json"))
    assert found["slabs"] == [[0, 6], [6, 12]]
    assert found["device"] == "cpu"
    assert found["device_bytes"] < found["memory"]
    assert sorted(path.name for path in small_scan.parent.iterdir()) == ["vol.zarr"]


def test_a_plan_for_gpus_that_are_elsewhere(
    small_scan: Path, untrained_prior: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = plan(small_scan, untrained_prior, capsys, "--method", "dds", "--gpus", "4")
    assert "4 GPUs, slices 0 to 2, 3 to 5, 6 to 8, 9 to 11" in said
    assert "of GPU memory per worker\n" in said
    assert "time      unknown: this machine has no such device" in said


def test_a_plan_that_cannot_fit(
    small_scan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resources, "total_host_bytes", lambda: 2**20)
    assert main(["plan", str(small_scan), "--method", "tv", "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert "12 slices on a worker need" in said
    assert "there are 1 MiB" in said
    assert "Use fewer workers" in said
