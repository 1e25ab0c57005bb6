"""Each mistake a user can make: a clear message, a non-zero exit, no traceback, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ddip_ray_cli.main import main

Run = Callable[..., str]


def _everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must fail as a user's mistake; what it said."""

    def run(*words: str | Path) -> str:
        before = _everything(tmp_path)
        assert main([str(word) for word in words]) == 2
        assert _everything(tmp_path) == before
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        return printed.err

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--acceleration", "0.5"], "--acceleration: found 0.5, expected 1 or more"),
        (
            ["--acceleration", "2", "--pattern", "star"],
            "--pattern: found 'star', expected one of full, uniform1d",
        ),
        (["--acceleration", "2", "--noise", "poisson:1e5"], "of which MRI has none"),
    ],
)
def test_impossible_mri(
    fails: Run, small_image: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    assert message in fails("simulate-mri", small_image, "-o", tmp_path / "vol.zarr", *words)


@pytest.mark.parametrize(("store", "method"), [("small_mri", "fbp"), ("small_scan", "zero-filled")])
def test_methods_of_the_other_kind(
    fails: Run, request: pytest.FixtureRequest, store: str, method: str
) -> None:
    path = request.getfixturevalue(store)
    message = fails("reconstruct", path, "--method", method, "--workers", "1", "--executor", "local")
    assert "reconstructs" in message
    assert "hint: For" in message


def _edit_root(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = store / "zarr.json"
    root = json.loads(path.read_text())
    change(root["attributes"])
    path.write_text(json.dumps(root))


def _reconstruct(store: Path, *words: str) -> tuple[str, ...]:
    return ("reconstruct", str(store), "--method", "fbp", "--workers", "1", *words)


def test_missing_store(fails: Run, tmp_path: Path) -> None:
    for words in (
        _reconstruct(tmp_path / "no.zarr"),
        ("info", tmp_path / "no.zarr"),
        ("evaluate", "no.zarr"),
    ):
        message = fails(*words)
        assert message.startswith("error: ")
        assert "no.zarr: no such store" in message


def test_not_an_acquisition(fails: Run, tmp_path: Path) -> None:
    import zarr

    zarr.create_group(store=tmp_path / "other.zarr")
    assert "not an acquisition" in fails(*_reconstruct(tmp_path / "other.zarr"))
    (tmp_path / "folder.zarr").mkdir()
    assert "not a Zarr v3 store" in fails(*_reconstruct(tmp_path / "folder.zarr"))


def test_wrong_version(fails: Run, small_scan: Path) -> None:
    _edit_root(small_scan, lambda attributes: attributes["ddip_ray"].update(version=7))
    message = fails(*_reconstruct(small_scan))
    assert "version 7" in message
    assert "reads version 1" in message


def test_unknown_and_bad_fields(fails: Run, small_scan: Path) -> None:
    def change(attributes: dict[str, Any]) -> None:
        attributes["ddip_ray"]["acquisition"].update(detector_spacing_mm=-1, colour="red")

    _edit_root(small_scan, change)
    message = fails(*_reconstruct(small_scan))
    assert "detector_spacing_mm" in message
    assert "colour" in message


def test_angles_do_not_match_the_views(fails: Run, small_scan: Path) -> None:
    _edit_root(small_scan, lambda attributes: attributes["ddip_ray"]["acquisition"]["angles_deg"].pop())
    message = fails(*_reconstruct(small_scan))
    assert "15 angles" in message
    assert "16 views" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_measurements_that_are_not_numbers(fails: Run, small_scan: Path, value: float) -> None:
    import zarr

    array = zarr.open_group(store=small_scan, mode="r+")["measurements"]
    assert isinstance(array, zarr.Array)
    array[4, 3, 2] = value
    message = fails(*_reconstruct(small_scan))
    assert "NaN or infinite" in message
    assert "z 4, view 3, detector 2" in message


def test_output_exists(fails: Run, small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(_reconstruct(small_scan))) == 0
    capsys.readouterr()
    message = fails(*_reconstruct(small_scan))
    assert "vol-fbp.zarr: already exists" in message
    assert "--overwrite" in message


def test_overwrite_spares_what_is_not_ours(fails: Run, small_scan: Path, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "cat.jpg").write_text("cat")
    assert "not replaced" in fails(*_reconstruct(small_scan, "-o", str(photographs), "--overwrite"))


def test_measurements_are_not_replaced_by_a_result(fails: Run, small_scan: Path) -> None:
    message = fails(*_reconstruct(small_scan, "-o", str(small_scan), "--overwrite"))
    assert "an acquisition, which a result does not replace" in message


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_made(fails: Run, small_scan: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    folder = str(tmp_path / place)
    words = ("--methods", "fbp", "--workers", "1")
    assert "no folder can be made there" in fails("compare", small_scan, "-o", folder, *words)
    assert "no folder can be made there" in fails("cohort", "run", small_scan.parent, "-o", folder)
    if place.startswith("/proc"):
        assert "no folder can be made there" in fails(*_reconstruct(small_scan, "-o", f"{folder}.zarr"))
    assert (tmp_path / "file").read_text() == "mine"


def test_no_folder_for_the_output(fails: Run, small_scan: Path, tmp_path: Path) -> None:
    assert "there is no folder" in fails(*_reconstruct(small_scan, "-o", str(tmp_path / "no" / "out.zarr")))


def test_unknown_key_in_run_yaml(fails: Run, small_scan: Path) -> None:
    config = small_scan.parent / "run.yaml"
    config.write_text("seed: x\nsampler:\n  num_step: 3\n")
    message = fails(*_reconstruct(small_scan, "--config", str(config)))
    assert "run.yaml" in message
    assert "sampler.num_step: unknown key" in message
    assert "- seed: " in message


def test_run_yaml_that_is_none(fails: Run, small_scan: Path) -> None:
    assert "cannot be read" in fails(*_reconstruct(small_scan, "--config", "no.yaml"))
    config = small_scan.parent / "run.yaml"
    config.write_text("method: [fbp]\n")
    assert "- method: " in fails("reconstruct", small_scan, "--config", config)
    config.write_text("method: fbp\nfbp: 5\n")
    assert "- fbp: expected a mapping of settings (found 5)" in fails(
        "reconstruct", small_scan, "--config", config
    )
    config.write_text("- fbp\n")
    assert "expected a mapping" in fails(*_reconstruct(small_scan, "--config", str(config)))
    config.write_text("method: fbp\n", encoding="utf-16")
    for command in (_reconstruct(small_scan), ("compare", small_scan), ("cohort", "run", str(config))):
        words = ("-o", str(small_scan.parent / "out")) if "cohort" in command else ("--config", str(config))
        assert "cannot be read" in fails(*command, *words)


def test_more_workers_than_slices(fails: Run, small_scan: Path) -> None:
    message = fails("reconstruct", small_scan, "--method", "fbp", "--workers", "13")
    assert "13 workers for 12 slices" in message
    assert "at most 12" in message


def test_more_gpus_than_there_are(fails: Run, small_scan: Path) -> None:
    assert "12 GPUs asked for" in fails("reconstruct", small_scan, "--method", "fbp", "--gpus", "12")


def test_flags_that_disagree(fails: Run, small_scan: Path) -> None:
    message = fails("reconstruct", small_scan, "--workers", "2", "--executor", "local")
    assert "local executor is one worker" in message


def test_unknown_prior(fails: Run, small_scan: Path) -> None:
    message = fails("reconstruct", small_scan, "--prior", "nope", "--workers", "1")
    assert "no prior 'nope'" in message
    assert "ddip-ray prior list" in message


def test_adaptation_that_cannot_be_weighed(fails: Run, small_scan: Path) -> None:
    for method in ("d3ip-meta", "ddip", "scd", "dds"):
        message = fails("reconstruct", small_scan, "--method", method, "--adapt", "auto", "--workers", "1")
        assert "policy: auto weighs the one adapter of d3ip" in message


def test_start_from_what_is_no_result(fails: Run, small_scan: Path) -> None:
    words = ("reconstruct", small_scan, "--method", "dds", "--workers", "1", "--start-from")
    assert "no.zarr" in fails(*words, "no.zarr")
    assert "result" in fails(*words, small_scan)
    message = fails("reconstruct", small_scan, "--method", "dps", "--start-from", small_scan)
    assert "dps does not start from a reconstruction" in message
    words = ("reconstruct", small_scan, "--method", "diffusionmbir", "--preset", "paper", "--workers", "1")
    assert "mbir.trajectory: ddim" in fails(*words, "--start-from", small_scan)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "method: dds\nsampler: {num_steps: 2000}",
            "sampler.num_steps: found 2000, the prior default has 1000",
        ),
        ("method: dps\ndps: {num_steps: 1001}", "dps.num_steps: found 1001"),
        ("method: score-sde\npredictor_corrector: {num_steps: 1001}", "predictor_corrector.num_steps: found"),
        ("sampler: {start: pseudo_inverse, start_t: 1000}", "sampler.start_t: found 1000, the prior default"),
        ("validation: {strengths: []}", "validation.strengths"),
        ("validation: {strengths: [.nan]}", "validation.strengths"),
    ],
)
def test_settings_that_cannot_be(fails: Run, small_scan: Path, settings: str, message: str) -> None:
    config = small_scan.parent / "run.yaml"
    config.write_text(settings)
    assert message in fails("reconstruct", small_scan, "--config", config, "--workers", "1")


def test_a_judge_that_scd_does_not_have(fails: Run, small_scan: Path) -> None:
    config = small_scan.parent / "run.yaml"
    config.write_text("method: scd\nadaptation: {loss: rescan}\n")
    assert "with loss: rescan it is ddip" in fails(
        "reconstruct", small_scan, "--config", config, "--workers", "1"
    )


def test_a_checkpoint_that_is_none(fails: Run, small_scan: Path) -> None:
    path = small_scan.parent / "model.pt"
    path.write_bytes(b"nonsense")
    message = fails("reconstruct", small_scan, "--prior", path, "--workers", "1")
    assert "model.pt" in message


def test_images(fails: Run, tmp_path: Path, small_image: Path) -> None:
    target = ("-o", tmp_path / "vol.zarr", "--views", "4")
    assert "no such file" in fails("simulate", tmp_path / "no.nii", *target)
    (tmp_path / "text.txt").write_text("hello")
    assert "not an image format" in fails("simulate", tmp_path / "text.txt", *target)
    (tmp_path / "broken.nii.gz").write_bytes(b"hello")
    assert "cannot be read as NIfTI" in fails("simulate", tmp_path / "broken.nii.gz", *target)
    assert "--noise" in fails("simulate", small_image, *target, "--noise", "loud")
    assert "--mu-max" in fails("simulate", small_image, *target, "--noise", "poisson:1e5")
    assert "slices" in fails("simulate", small_image, *target, "--slices", "5:50")
    assert "window" in fails("simulate", small_image, *target, "--window", "1", "0")


def test_projections(fails: Run, tmp_path: Path) -> None:
    file, target = tmp_path / "projections.npz", ("-o", tmp_path / "vol.zarr")
    assert "no such file" in fails("import", file, *target)
    np.savez(file, line_integrals=np.ones((5, 3, 8), np.float32))
    assert "no angles" in fails("import", file, *target)
    assert "5 views" in fails("import", file, *target, "--angles", "0,1,2")


def test_picture(fails: Run, small_scan: Path, tmp_path: Path) -> None:
    assert "expected a name ending in .png" in fails("evaluate", small_scan, "--png", tmp_path / "a.jpg")
    (tmp_path / "a.png").write_text("mine")
    assert "already exists" in fails("evaluate", small_scan, "--png", tmp_path / "a.png")
    assert "there is no folder" in fails("evaluate", small_scan, "--png", tmp_path / "no" / "a.png")
    assert "not a result" in fails("evaluate", small_scan, "--png", tmp_path / "b.png")


def test_priors(fails: Run, tmp_path: Path) -> None:
    assert "no prior" in fails("prior", "info", tmp_path / "no")
    for channels in ("12,32", "32,48", "32,x"):
        assert "--channels" in fails("prior", "train", tmp_path / "new", "--channels", channels)


def test_usage_errors(fails: Run) -> None:
    assert "No such option" in fails("info", "--colour")
    assert "Missing argument" in fails("reconstruct")
    assert "No such command" in fails("recontruct")
