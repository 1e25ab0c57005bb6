"""A comparison: scored alike, resumed, and never mixed with results of other settings."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ddip_ray_cli.main import main

from ddip_ray.config.load import load_config
from ddip_ray.engine.planning.layout import Layout
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.schema import AcquisitionMetadata
from ddip_ray.prior.network import NetworkConfig, build_network
from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate
from ddip_ray.tasks.compare.compare import Run, compare
from ddip_ray.tasks.compare.picture import comparison_picture, zoom_window
from ddip_ray.tasks.compare.table import markdown, table
from ddip_ray.tasks.judge.evaluate import evaluate

CONFIGS = {
    "fbp": load_config(None, {"method": "fbp"}),
    "cg": load_config(None, {"method": "cg"}),
}


def run(name: str, seed: int, psnr: float | None) -> Run:
    planes = (
        {} if psnr is None else {"axial": (psnr + 1, 0.9), "coronal": (psnr, None), "sagittal": (psnr, 0.8)}
    )
    nfe = 50 + 2 * seed, 7 + 10 * seed
    return Run(name, seed, f"{name}.zarr", 10.0 + seed, *nfe, 2**20, 2, 0.01, psnr, 0.5, planes)


def tiny_network() -> Any:
    return build_network(NetworkConfig(channels=(8, 8), norm_num_groups=4, attention_head_dim=8))


def test_runs_are_scored_as_evaluate_does_and_not_made_twice(small_scan: Path) -> None:
    folder = small_scan.parent / "out"
    folder.mkdir()
    told: list[int] = []
    arguments = (str(small_scan), str(folder), CONFIGS, [0, 1])
    runs = compare(*arguments, on_run=lambda runs: told.append(len(runs)))
    assert [(run.name, run.seed) for run in runs] == [("fbp", 0), ("cg", 0)]  # no prior, no seeds
    assert told == [1, 2]
    scores = evaluate(runs[1].result)
    assert (runs[1].psnr, runs[1].ssim) == (scores.psnr, scores.ssim)
    assert runs[1].planes["coronal"] == (scores.planes["coronal"].psnr, scores.planes["coronal"].ssim)
    assert runs[0].peak_bytes > 50 * 2**20
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("zarr.json")}
    assert compare(*arguments) == runs
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("zarr.json")} == before


def test_results_of_other_settings_are_refused_or_replaced(small_scan: Path) -> None:
    folder = small_scan.parent / "out"
    folder.mkdir()
    first = compare(str(small_scan), str(folder), CONFIGS, [0])
    other = {"cg": load_config(None, {"method": "cg", "cg": {"iterations": 2}})}
    with pytest.raises(InputError, match=r"cg-seed0\.zarr: already there, but made with other settings: cg"):
        compare(str(small_scan), str(folder), other, [0])
    again, fbp = compare(str(small_scan), str(folder), other, [0], overwrite=True)
    assert again.psnr != first[1].psnr
    assert fbp == first[0]


def test_settings_that_a_method_does_not_hear_are_no_others(small_scan: Path) -> None:
    folder = small_scan.parent / "out"
    first = compare(str(small_scan), str(folder), CONFIGS, [0])
    other = {"adaptation": {"num_adapt_steps": 4}, "micro_batch": 2, "seed": 5}
    configs = {name: load_config(None, {"method": name, **other}) for name in CONFIGS}
    assert compare(str(small_scan), str(folder), configs, [5, 6]) == first


def test_rows_of_earlier_calls_stay_in_the_table(small_scan: Path, small_image: Path) -> None:
    folder = small_scan.parent / "out"
    first = compare(str(small_scan), str(folder), CONFIGS, [0])
    other = small_scan.parent / "other.zarr"
    simulate(str(small_image), str(other), Scan(num_views=9, window=(0.0, 1.0)))
    compare(str(other), str(small_scan.parent / "out2"), {"tv": CONFIGS["cg"]}, [0])
    shutil.copytree(small_scan.parent / "out2" / "tv-seed0.zarr", folder / "tv-seed0.zarr")  # of another scan
    shutil.copytree(small_scan, folder / "scan-seed0.zarr")  # no result
    told: list[list[str]] = []
    again = compare(
        *(str(small_scan), str(folder), {"cg": CONFIGS["cg"]}, [0]),
        on_run=lambda runs: told.append([run.name for run in runs]),
    )
    assert again == [first[1], first[0]]
    assert told == [["cg", "fbp"]]


def test_a_row_is_of_seeds_with_the_same_settings(small_scan: Path) -> None:
    folder, prior = str(small_scan.parent / "out"), str(small_scan.parent / "prior")
    tiny_network().save_pretrained(prior, safe_serialization=True)

    def seeds(num_steps: int, *wanted: int, overwrite: bool = False) -> list[int]:
        settings = {"method": "dds", "prior": prior, "sampler": {"num_steps": num_steps}}
        configs = {"dds": load_config(None, settings)}
        runs = compare(str(small_scan), folder, configs, wanted, layout=Layout(1), overwrite=overwrite)
        return [run.seed for run in runs]

    assert seeds(2, 0, 1) == [0, 1]
    assert seeds(3, 5) == [5]
    assert seeds(2, 0) == [0, 1]
    assert seeds(3, 0, overwrite=True) == [0, 5]
    told = compare(str(small_scan), folder, {"fbp": CONFIGS["fbp"]}, [0])
    assert [(run.name, run.seed, run.nfe) for run in told] == [("fbp", 0, 0), ("dds", 0, 3), ("dds", 5, 3)]
    unreadable = load_config(None, {"method": "d3ip", "adapter": "nowhere.safetensors"})
    with pytest.raises(InputError, match=r"adapter nowhere\.safetensors cannot be read"):
        compare(str(small_scan), folder, {"dds": unreadable}, [7])


def test_a_study_can_be_moved(small_scan: Path) -> None:
    study = small_scan.parent
    first = compare(str(small_scan), str(study / "out"), CONFIGS, [0])
    moved = study.rename(study.with_name("moved"))
    again = compare(str(moved / small_scan.name), str(moved / "out"), CONFIGS, [0])
    assert [run.psnr for run in again] == [run.psnr for run in first]
    assert [run.seconds for run in again] == [run.seconds for run in first]  # not made anew


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("zero-filled", {}, "zero-filled reconstructs MRI"),
        ("dds", {"prior": "nowhere"}, "nowhere"),
        ("d3ip", {"adapter": "nowhere.safetensors"}, "nowhere"),
    ],
)
def test_a_method_that_cannot_run_is_found_before_any_work(
    small_scan: Path, name: str, settings: dict[str, str], message: str
) -> None:
    folder = small_scan.parent / "out"
    configs = {**CONFIGS, name: load_config(None, {"method": name, **settings})}
    with pytest.raises(InputError, match=message):
        compare(str(small_scan), str(folder), configs, [0])
    assert not folder.exists()


def test_another_scan_under_the_same_name_is_noticed(small_scan: Path, small_image: Path) -> None:
    folder = small_scan.parent / "out"
    folder.mkdir()
    compare(str(small_scan), str(folder), CONFIGS, [0])
    simulate(str(small_image), str(small_scan), Scan(num_views=9, window=(0.0, 1.0)), overwrite=True)
    with pytest.raises(InputError, match=r"fbp-seed0\.zarr: already there.*acquisition \(acquisition\)"):
        compare(str(small_scan), str(folder), CONFIGS, [0])


def test_other_measurements_of_the_same_scan_are_noticed(small_image: Path, tmp_path: Path) -> None:
    store, image = tmp_path / "vol.zarr", tmp_path / "image.npy"

    def scan(volume: np.ndarray) -> AcquisitionMetadata:
        np.save(image, volume)
        simulate(str(image), str(store), Scan(num_views=8, window=(0.0, 1.0)), overwrite=True)
        return open_acquisition(str(store)).metadata

    before = scan(np.load(small_image))
    compare(str(store), str(tmp_path), CONFIGS, [0])
    assert scan(np.load(small_image)[:, ::-1]) == before
    with pytest.raises(InputError, match=r"fbp-seed0\.zarr: already there.*measurements \(contents\)"):
        compare(str(store), str(tmp_path), CONFIGS, [0])


def test_a_prior_trained_anew_is_noticed(small_scan: Path) -> None:
    folder, prior = small_scan.parent / "out", small_scan.parent / "prior"
    folder.mkdir()
    network = tiny_network()
    network.save_pretrained(prior, safe_serialization=True)
    settings = {"method": "dds", "prior": str(prior), "sampler": {"num_steps": 2}}
    arguments = (str(small_scan), str(folder), {"dds": load_config(None, settings)}, [0])
    first = compare(*arguments, layout=Layout(1))
    assert compare(*arguments, layout=Layout(1)) == first
    next(network.parameters()).data.add_(0.1)
    network.save_pretrained(prior, safe_serialization=True)
    with pytest.raises(InputError, match=r"dds-seed0\.zarr: already there.*prior \(contents\)"):
        compare(*arguments, layout=Layout(1))


def test_a_reference_that_does_not_fit_is_found_before_any_work(small_scan: Path, small_image: Path) -> None:
    other, folder = small_scan.parent / "other.zarr", small_scan.parent / "out"
    simulate(str(small_image), str(other), Scan(num_views=9, window=(0.0, 1.0), slices="0:4"))
    with pytest.raises(InputError, match=r"other\.zarr: shape \(4, 20, 24\)"):
        compare(str(small_scan), str(folder), CONFIGS, [0], reference=str(other))
    assert not folder.exists()


def test_seeds_begin_at_the_settings_own(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = small_scan.parent / "run.yaml"
    settings.write_text("seed: 5\nsampler: {num_steps: 2}\n")
    words = ["--methods", "dds", "--seeds", "2", "--workers", "1", "--config", str(settings), "--json"]
    assert main(["compare", str(small_scan), *words]) == 0
    assert [run["seed"] for run in json.loads(capsys.readouterr().out)["runs"]] == [5, 6]


def test_the_table_has_means_and_spreads() -> None:
    rows = table([run("dds", 0, 30.0), run("dds", 1, 31.0), run("fbp", 0, None)])
    heading, dds, fbp = rows
    values = dict(zip(heading, dds, strict=True))
    assert values["PSNR (dB)"] == "30.50 ± 0.71"
    assert values["axial PSNR"] == "31.50"
    assert values["coronal SSIM"] == "-"
    assert values["seconds"] == "10"
    assert (values["NFE"], values["adapt NFE"]) == ("51", "12")
    assert dict(zip(heading, fbp, strict=True))["PSNR (dB)"] == "-"
    assert markdown(rows).splitlines()[1] == "|" + "---|" * len(heading)


def test_the_zoom_is_where_methods_are_wrong() -> None:
    truth = np.zeros((30, 24), np.float32)
    wrong = truth.copy()
    wrong[20:28, 2:9] = 1
    top, left, height, width = zoom_window([truth, wrong], truth)
    assert (height, width) == (10, 8)
    assert 18 <= top <= 20
    assert 1 <= left <= 2


def test_the_picture_has_a_row_for_each_method() -> None:

    from matplotlib.image import imread

    volume = np.random.default_rng(0).random((9, 16, 16)).astype(np.float32)
    with_truth = imread(io.BytesIO(comparison_picture({"a": volume, "b": volume}, volume)))
    without = imread(io.BytesIO(comparison_picture({"a": volume, "b": volume}, None)))
    assert with_truth.shape[0] > 1.3 * without.shape[0]
    assert with_truth.shape[1] > 1.1 * without.shape[1]


def test_long_names_have_room_in_the_picture() -> None:
    from matplotlib.image import imread

    volume = np.ones((9, 16, 16), np.float32)
    picture = imread(
        io.BytesIO(comparison_picture({"a": volume, "diffusionmbir-slow\n40.00 dB": volume}, None))
    )
    for row in np.split(picture[33 : 33 + 418, :, :3], 2):
        written = np.flatnonzero(row.max((0, 2)) > 0.2)
        gap = np.diff(written).argmax()  # between the name and the first image
        assert written[0] >= 5
        assert written[gap + 1] - written[gap] >= 5


def test_command(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(small_scan), "--methods", "fbp, cg", "--workers", "1"]) == 0
    folder = small_scan.parent / "vol-compare"
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "compare.md").read_text().count("\n| ") == 3
    assert len(json.loads((folder / "compare.json").read_text())["runs"]) == 2
    capsys.readouterr()
    assert main(["compare", str(small_scan), "--methods", "fbp,cg", "--workers", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in document["runs"]] == ["fbp", "cg"]


def test_variants_are_rows_of_their_own(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = small_scan.parent
    (study / "few.yaml").write_text("method: cg\ncg: {iterations: 2}\n")
    words = ["compare", str(small_scan), "--methods", "cg", "--workers", "1"]
    assert main([*words, "--variant", f"cg-2={study / 'few.yaml'}", "--json"]) == 0
    plain, few = json.loads(capsys.readouterr().out)["runs"]
    assert (plain["name"], few["name"]) == ("cg", "cg-2")
    assert plain["psnr"] != few["psnr"]
    assert (study / "vol-compare" / "cg-2-seed0.zarr").is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variant", "few.yaml"], "expected NAME=FILE"),
        (["--variant", "a/b=few.yaml"], "expected NAME=FILE"),
        (["--variant", "dds=few.yaml"], "dds is a method or given twice"),
        (["--variant", "a=few.yaml", "--variant", "a=few.yaml"], "a is a method or given twice"),
        (["--config", "few.yaml"], "sets a method, but the methods are given by --methods"),
    ],
)
def test_variants_that_cannot_be(
    small_scan: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(small_scan.parent)
    Path("few.yaml").write_text("method: cg\n")
    assert main(["compare", str(small_scan), "--methods", "cg", "--workers", "1", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("vol-compare").exists()


def test_the_folder_is_a_local_one(
    small_scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    for words in ([str(small_scan), "-o", "s3://bucket/out"], ["s3://bucket/vol.zarr"]):
        assert main(["compare", *words, "--methods", "fbp", "--workers", "1"]) == 2
        assert "not a local folder" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_measured_data_without_reference_are_compared_by_residual(small_scan: Path) -> None:
    shutil.rmtree(small_scan / "reference")
    folder = small_scan.parent / "out"
    folder.mkdir()
    runs = compare(str(small_scan), str(folder), CONFIGS, [0])
    assert [item.psnr for item in runs] == [None, None]
    assert all(0 < (item.residual or 0) < 1 for item in runs)


def test_bad_names_leave_nothing(small_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(small_scan.parent.iterdir())
    assert main(["compare", str(small_scan), "--methods", "fbp,fdk"]) == 2
    assert "no method fdk" in capsys.readouterr().err
    assert main(["compare", str(small_scan.parent / "no.zarr"), "-o", str(small_scan.parent / "x")]) == 2
    assert main(["compare", str(small_scan), "--methods", "fbp", "--reference", "no.zarr"]) == 2
    assert sorted(small_scan.parent.iterdir()) == before
