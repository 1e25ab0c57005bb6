"""What `ddip-ray launch slurm` writes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ddip_ray_cli.main import main

EXAMPLE = Path(__file__).parents[2] / "deploy" / "slurm" / "site.example.yaml"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
RECONSTRUCT = ["--", "reconstruct", "my vol.zarr", "--method", "dds"]


def script(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["launch", "slurm", "--dry-run", *words]) == 0
    return capsys.readouterr().out


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]


@pytest.mark.parametrize(
    "words",
    [
        ["--cpus-per-node", "2", *RECONSTRUCT],
        ["--nodes", "4", "--gpus-per-node", "8", "--site", str(EXAMPLE), *RECONSTRUCT],
        ["--gpus-per-node", "1", "--jobs", "3", "--", "cohort", "run", "scans/", "-o", "out/"],
    ],
    ids=["cores", "site", "cohort"],
)
def test_the_script_is_sound(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    text = script(capsys, *words)
    found = subprocess.run(
        [SHELLCHECK, "--severity=warning", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
    assert {"--no-kill", "--open-mode=append", "--ntasks-per-node=1"} <= set(directives(text))


def test_the_site_is_asked_for_what_its_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = script(
        capsys, "--nodes", "2", "--gpus-per-node", "4", "--site", str(EXAMPLE), "--name", "mine", *RECONSTRUCT
    )
    found = directives(text)
    assert "--job-name=mine" in found
    assert "--nodes=2" in found
    assert "--gpus-per-node=a100:4" in found
    assert "--cpus-per-task=16" in found
    assert "--output=logs/mine-%j.out" in found
    assert {"--partition=gpu", "--account=imaging", "--qos=normal", "--time=12:00:00"} <= set(found)
    assert {"--mem=120G", "--constraint=infiniband", "--mail-type=FAIL", "--requeue"} <= set(found)
    assert "--signal=B:USR1@120" in found
    assert "module load python/3.11 cuda/12.4" in text.splitlines()
    assert "GLOO_SOCKET_IFNAME=ib0" in text
    assert "ddip-ray reconstruct 'my vol.zarr' --method dds --elastic &" in text


def test_without_a_site_the_programs_are_those_that_launch(capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, "--cpus-per-node", "2", "--time", "1-0", *RECONSTRUCT)
    assert f"export PATH={Path(sys.executable).parent}:$PATH" in text.splitlines()
    assert "--time=1-0" in directives(text)
    assert not [line for line in directives(text) if line.startswith(("--partition", "--gpus"))]


def test_jobs_share_a_cohort(capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, "--gpus-per-node", "1", "--jobs", "3", "--", "cohort", "resume", "out/")
    assert {"--array=0-2", "--output=ddip-ray-%A_%a.out"} <= set(directives(text))
    assert "ddip-ray cohort resume out/ &" in text


def test_a_site_may_not_queue_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("requeue: false\n")
    text = script(capsys, "--site", str(site), "--cpus-per-node", "2", *RECONSTRUCT)
    assert "--no-requeue" in directives(text)
    assert "scontrol requeue" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no command to launch"),
        (["--cpus-per-node", "2"], "no command to launch"),
        (["--cpus-per-node", "2", "--", "evaluate", "x"], "'evaluate' cannot be launched"),
        (["--cpus-per-node", "2", "--", "cohort", "status", "x"], "'cohort status' cannot be launched"),
        (RECONSTRUCT, "neither --gpus-per-node nor --cpus-per-node"),
        (["--gpus-per-node", "2", *RECONSTRUCT, "--gpus", "2"], "--gpus after --"),
        (["--gpus-per-node", "2", *RECONSTRUCT, "--executor=local"], "--executor=local after --"),
        (["--gpus-per-node", "4", "--cpus-per-node", "2", *RECONSTRUCT], "--cpus-per-node 2 for 4 GPUs"),
        (["--cpus-per-node", "2", "--jobs", "2", *RECONSTRUCT], "--jobs 2: several jobs share"),
        (["--cpus-per-node", "2", "--name", "a b", *RECONSTRUCT], "--name: found 'a b'"),
        (["--cpus-per-node", "2", "--time", "soon", *RECONSTRUCT], "--time: found 'soon'"),
        (["--cpus-per-node", "2", *RECONSTRUCT, "--methd", "tv"], "No such option"),
        (["--site", "nowhere.yaml", *RECONSTRUCT], "site file nowhere.yaml cannot be read"),
    ],
)
def test_what_cannot_be_launched(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert main(["launch", "slurm", "--dry-run", *words]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"partitoin": "gpu"}, "partitoin: Extra inputs are not permitted"),
        ({"partition": "gpu #"}, "partition: "),
        ({"warning_seconds": 0}, "warning_seconds: "),
        ({"setup": ["a\nb"]}, "setup.0: "),
        ({"temp_dir": "/scratch/of/a/very/long/name"}, "temp_dir: "),
        ({"log_folder": "my logs"}, "log_folder: "),
        (["a list"], "site.yaml:"),
    ],
)
def test_a_site_file_that_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, values: object, says: str
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump(values))
    assert main(["launch", "slurm", "--site", str(site), "--cpus-per-node", "2", *RECONSTRUCT]) == 2
    assert says in capsys.readouterr().err


def test_where_there_is_no_slurm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["launch", "slurm", "--cpus-per-node", "2", *RECONSTRUCT]) == 2
    assert "there is no sbatch on this machine" in capsys.readouterr().err
