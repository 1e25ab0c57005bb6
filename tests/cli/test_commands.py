"""Every command once, the way a person runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ddip_ray_cli.commands import demo, reconstruct
from ddip_ray_cli.main import main

from ddip_ray.engine.events import StepEvent


def test_simulate_reconstruct_evaluate(
    small_image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "vol.zarr")
    assert main(["simulate", str(small_image), "-o", store, "--views", "16", "--window", "0", "1"]) == 0
    assert f"next: ddip-ray reconstruct {store}" in capsys.readouterr().out

    assert main(["reconstruct", store, "--method", "fbp", "--workers", "1"]) == 0
    printed = capsys.readouterr()
    result = str(tmp_path / "vol-fbp.zarr")
    assert f"next: ddip-ray evaluate {result}" in printed.out
    assert "fbp 1/1  residual 0." in printed.err

    picture = tmp_path / "picture.png"
    assert main(["evaluate", result, "--png", str(picture), "--per-slice"]) == 0
    printed = capsys.readouterr()
    assert "data range 1 = 1, whole slices" in printed.out
    assert "mean of 12 slices" in printed.out
    assert picture.read_bytes().startswith(b"\x89PNG")

    assert main(["evaluate", result, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["psnr"] > 20
    assert len(scores["planes"]["axial"]["slice_psnr"]) == 12
    assert scores["data_range"] == 1.0


def test_mri(small_image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, result = str(tmp_path / "head.zarr"), str(tmp_path / "head-cg.zarr")
    scan = ["--acceleration", "2", "--coils", "4", "--calibration", "6", "--brightest", "1"]
    assert main(["simulate-mri", str(small_image), "-o", store, *scan]) == 0
    printed = capsys.readouterr().out
    assert "4, sensitivity maps in the store" in printed
    assert "12 x 4 x 20 x 24 (z, coil, ky, kx)" in printed
    assert f"next: ddip-ray reconstruct {store}" in printed

    assert main(["reconstruct", store, "--method", "cg", "--workers", "1"]) == 0
    picture = tmp_path / "head.png"
    assert main(["evaluate", result, "--png", str(picture), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out.split("evaluate " + result, 1)[1].strip())
    assert scores["psnr"] > 30
    assert scores["residual"] < 0.01
    assert picture.read_bytes().startswith(b"\x89PNG")

    words = ["--methods", "zero-filled,cg", "-o", str(tmp_path / "compared")]
    assert main(["compare", store, *words]) == 0
    assert "zero-filled" in (tmp_path / "compared" / "compare.md").read_text()


def test_info(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(small_scan)]) == 0
    words = capsys.readouterr().out
    assert "12 x 16 x 32 (z, view, detector)" in words
    assert "16, 0 to 168.75 degrees" in words
    assert main(["info", str(small_scan), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["measurements_shape"] == [12, 16, 32]


def test_info_of_a_result(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(small_scan.parent / "out.zarr")
    words = ["reconstruct", str(small_scan), "-o", output, "--method", "cg", "--executor", "local", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["output"] == output
    assert main(["info", output]) == 0
    printed = capsys.readouterr().out
    assert "OME-Zarr" in printed
    assert "cg" in printed


def test_config_file_and_flags(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_scan.parent / "run.yaml"
    config.write_text("method: fbp\nseed: 3\nfbp:\n  filter_name: hann\n")
    output = str(small_scan.parent / "out.zarr")
    words = ["reconstruct", str(small_scan), "-o", output, "--config", str(config), "--seed", "7"]
    assert main([*words, "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["info", output, "--json"]) == 0
    used = json.loads(capsys.readouterr().out)["provenance"]["config"]
    assert (used["method"], used["seed"], used["fbp"]["filter_name"]) == ("fbp", 7, "hann")


def test_auto_says_how_strongly_it_adapted(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_scan.parent / "run.yaml"
    config.write_text(
        "sampler: {num_steps: 2}\nadaptation: {num_adapt_steps: 1, num_copies: 1, lora_rank: 1}\n"
    )
    prior = small_scan.parent / "tiny"
    train = ["--size", "16", "--steps", "1", "--batch", "1", "--channels", "8,32"]
    assert main(["prior", "train", str(prior), *train]) == 0
    capsys.readouterr()
    words = ["reconstruct", str(small_scan), "--prior", str(prior), "--config", str(config), "--workers", "1"]
    assert main([*words, "--adapt", "auto"]) == 0
    printed = capsys.readouterr().out
    said = r"(adapted at strength \S+|not adapted, for no clear gain); misfit of held-out views"
    assert re.search(said, printed)
    assert main(["info", str(small_scan.parent / "vol-d3ip.zarr"), "--json"]) == 0
    provenance = json.loads(capsys.readouterr().out)["provenance"]
    assert provenance["notes"][0] in printed
    assert provenance["config"]["adaptation"]["policy"] == "auto"


def test_overwrite(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reconstruct", str(small_scan), "--method", "fbp", "--workers", "1"]
    assert main(words) == 0
    assert main(words) == 2
    assert "already exists" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_import(small_scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from ddip_ray.io.stores.acquisition import open_acquisition

    scan = open_acquisition(small_scan)
    y = scan.measurements(0, scan.num_slices) * 0.05
    file, store = tmp_path / "projections.npz", tmp_path / "measured.zarr"
    np.savez(file, line_integrals=y.transpose(1, 0, 2))
    words = ["import", str(file), "-o", str(store), "--angles", "0:180", "--rotation-center", "15.5"]
    assert main([*words, "--rows", "1", "9", "--pixel-mm", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "8 x 16 x 32 (z, view, detector)" in printed
    assert "32 columns of 0.5 mm, rotation axis at column 15.5" in printed
    assert f"next: ddip-ray reconstruct {store}" in printed


@pytest.mark.parametrize(("network", "data"), [("unet", "random ellipses"), ("residual", "random leaves")])
def test_train_and_describe_a_prior(
    network: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = tmp_path / "tiny"
    options = ["--size", "16", "--steps", "2", "--batch", "2", "--channels", "8,32", "--network", network]
    assert main(["prior", "train", str(prior), *options]) == 0
    printed = capsys.readouterr()
    assert "steps 2/2  loss" in printed.err
    assert (prior / "README.md").is_file()
    assert main(["prior", "info", str(prior), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps_done"] == 2
    assert main(["prior", "info", str(prior)]) == 0
    assert data in capsys.readouterr().out


def test_prior_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prior", "list", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    assert main(["prior", "list"]) == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ddip-ray 0.")


@pytest.mark.parametrize(("words", "direct"), [([], "FBP"), (["mri"], "ZERO-FILLED")])
def test_demo_uses_the_engine_as_a_person_would(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    direct: str,
) -> None:
    """The whole demo with a quick method in place of D3IP; `make demo` runs the real one."""
    monkeypatch.setattr(demo, "METHOD", "cg")
    monkeypatch.setattr(demo, "WORKERS", 1)
    folder = tmp_path / "demo"
    assert main(["demo", *words, "-o", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert str(folder / "demo.png") in printed
    assert direct in printed
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert main(["demo", *words, "-o", str(folder)]) == 2


def test_progress_words() -> None:
    lines: list[tuple[int, int, str]] = []
    on_event = reconstruct.watcher(lambda *line: lines.append(line))
    on_event(StepEvent(3, 50, 0.01234, 0.5, 6.0, 94.0))
    on_event(StepEvent(4, 50, 0.01234, None, 8.0, 92.0))
    assert lines == [
        (3, 50, "residual 0.0123  loss 0.5  1:34 left"),
        (4, 50, "residual 0.0123  1:32 left"),
    ]
