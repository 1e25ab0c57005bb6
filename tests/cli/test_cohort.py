"""A cohort as its user meets it: bad volumes among good ones, a driver that dies, a report at the end."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import yaml
from ddip_ray_cli.main import main

from ddip_ray.io.stores.result import open_result

COMMAND = [sys.executable, "-c", "import sys; from ddip_ray_cli.main import run; sys.exit(run())"]
LOCAL = ["--executor", "local"]
STEPS = {"sampler": {"num_steps": 3}}
NAMES = ["a", "b", "corrupt", "nan"]


@pytest.fixture
def scans(small_scan: Path, tmp_path: Path) -> Path:
    """A folder of two good scans, one whose metadata are cut and one with a NaN."""
    folder = tmp_path / "scans"
    for name in NAMES:
        shutil.copytree(small_scan, folder / f"{name}.zarr")
    document = folder / "corrupt.zarr" / "measurements" / "zarr.json"
    document.write_text(document.read_text()[:40])
    kvstore = {"driver": "file", "path": str(folder / "nan.zarr" / "measurements")}
    array = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
    array[9, 3, 5] = float("nan")
    return folder


@pytest.fixture
def settings(tmp_path: Path, untrained_prior: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"method": "dds", "prior": str(untrained_prior), **STEPS}))
    return path


def status(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["cohort", "status", str(folder), "--json"]) == 0
    return {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}


def read(path: str) -> np.ndarray:
    result = open_result(path)
    return result.read(0, result.shape[0])


def test_bad_volumes_do_not_stop_the_others(
    scans: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = str(tmp_path / "alone.zarr")
    assert main(["reconstruct", str(scans / "a.zarr"), "-o", alone, "--config", str(settings), *LOCAL]) == 0
    shutil.copytree(alone, scans / "earlier-result.zarr")  # left out
    folder = tmp_path / "out"
    words = ["cohort", "run", str(scans), "-o", str(folder), "--config", str(settings), "--workers", "2"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "4 volumes: 2 done, 2 failed" in said.out
    assert "corrupt: failed: " in said.err
    found = status(folder, capsys)
    assert {name: entry["state"] for name, entry in found.items()} == {
        "a": "done", "b": "done", "corrupt": "failed", "nan": "failed",
    }  # fmt: skip
    assert "corrupt.zarr" in found["corrupt"]["error"]
    assert "1 of" in found["nan"]["error"]
    assert "NaN" in found["nan"]["error"]
    assert all(entry["attempts"] == 1 for entry in found.values())
    np.testing.assert_array_equal(read(found["a"]["output"]), read(alone))
    assert found["a"]["psnr"] is not None
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["a.zarr", "b.zarr", "cohort.sqlite"]

    # Nothing is done twice; what failed is tried again when its cause is gone and somebody says so.
    made = {name: (folder / f"{name}.zarr" / "zarr.json").stat().st_mtime_ns for name in ("a", "b")}
    assert main(words) == 1
    shutil.rmtree(scans / "nan.zarr")
    shutil.copytree(scans / "a.zarr", scans / "nan.zarr")
    assert main(["cohort", "resume", str(folder), "--failed", "--workers", "1"]) == 1
    found = status(folder, capsys)
    assert (found["nan"]["state"], found["corrupt"]["state"]) == ("done", "failed")
    assert {name: (folder / f"{name}.zarr" / "zarr.json").stat().st_mtime_ns for name in made} == made
    assert found["a"]["attempts"] == 1

    assert main(["cohort", "report", str(folder)]) == 0
    with (folder / "report.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["a"]["psnr"] == str(found["a"]["psnr"])
    assert rows["corrupt"]["state"] == "failed"
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["a.png", "b.png", "nan.png"]
    capsys.readouterr()
    assert main(["cohort", "status", str(folder)]) == 0
    assert "4 volumes: 3 done, 1 failed" in capsys.readouterr().out


def test_a_driver_that_dies(
    scans: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, cohort = tmp_path / "out", tmp_path / "cohort.yaml"
    steps = {"num_steps": 40, "cg_iterations": 4, "final_cg_iterations": 4}
    config = {**yaml.safe_load(settings.read_text()), "sampler": steps}
    settings.write_text(yaml.safe_dump(config))
    volumes = [{"store": "scans/a.zarr"}, {"store": "scans/b.zarr", "name": "second"}]
    cohort.write_text(yaml.safe_dump({"config": config, "volumes": volumes}))
    run = ["cohort", "run", str(cohort), "-o", str(folder), "--workers", "2", "--snapshot-every", "2"]
    process = subprocess.Popen([*COMMAND, *run], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not list(folder.glob("*.snapshots/*.json")):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    again = subprocess.run(
        [*COMMAND, "cohort", "resume", str(folder)], capture_output=True, text=True, check=True
    )
    assert "going on after step" in again.stderr
    found = status(folder, capsys)
    assert {name: entry["state"] for name, entry in found.items()} == {"a": "done", "second": "done"}
    np.testing.assert_array_equal(read(found["a"]["output"]), read(found["second"]["output"]))
    alone = str(tmp_path / "alone.zarr")
    words = ["reconstruct", str(scans / "a.zarr"), "-o", alone, "--config", str(settings), *LOCAL]
    assert main(words) == 0
    np.testing.assert_array_equal(read(found["a"]["output"]), read(alone))


def test_a_volume_starts_from_what_an_earlier_one_has_taught(
    scans: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("corrupt", "nan"):
        shutil.rmtree(scans / f"{name}.zarr")
    adaptation = {
        "policy": "fixed",
        "lora_rank": 2,
        "adapt_start_t": 999,
        "num_adapt_steps": 1,
        "num_copies": 1,
    }
    config = {**yaml.safe_load(settings.read_text()), "method": "d3ip", "adaptation": adaptation}
    settings.write_text(yaml.safe_dump(config))
    folder = tmp_path / "out"
    words = ["cohort", "run", str(scans), "-o", str(folder), "--config", str(settings), "--workers", "1"]
    assert main([*words, "--warm-start"]) == 0
    said = capsys.readouterr().err
    first = folder / "adapters" / "default" / "000001.safetensors"
    assert "a: no adapter of default when it was begun: starts from none" in said
    assert f"b: starts from {first}, learned from a" in said
    found = status(folder, capsys)
    recorded: Any = [open_result(found[name]["output"]).provenance["config"] for name in "ab"]
    assert [config["adapter"] for config in recorded] == [None, str(first)]
    assert not np.array_equal(read(found["a"]["output"]), read(found["b"]["output"]))
    assert len(list(first.parent.iterdir())) == 2


@pytest.mark.parametrize(
    "flags", [["--snapshot-every", "10min"], ["--gpus", "1", "--workers", "1"], ["--workers", "0"]]
)
def test_flags_that_no_run_can_have_leave_nothing(scans: Path, tmp_path: Path, flags: list[str]) -> None:
    assert main(["cohort", "run", str(scans), "-o", str(tmp_path / "out"), *flags]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("volumes: []", "no volumes"),
        ("volumes: [{store: a.zarr, stoer: b}]", "stoer"),
        ("volumes: [{store: a.zarr}, {store: x/a.zarr}]", "several volumes are called a"),
        ("volumes: [{store: a.zarr, config: {method: magic}}]", "method"),
        ("volumes: [{store: a.zarr, name: ../a}]", "a name must be a file name"),
        ("volumes: [{store: a.zarr, tag: a/b}]", "tag 'a/b'"),
        ("volumes: [", "cannot be read"),
    ],
)
def test_a_cohort_that_cannot_be(
    tmp_path: Path, document: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cohort.yaml"
    path.write_text(document)
    assert main(["cohort", "run", str(path), "-o", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
