"""Priors and adapters that do not belong together, and a disk that is too small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from ddip_ray_cli.main import main

TINY_RUN = "method: d3ip\nsampler: {num_steps: 2}\nadaptation: {lora_rank: 1, num_adapt_steps: 1}\n"


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two untrained priors, ``one`` and ``two``."""
    import torch

    from ddip_ray.prior.load import save_prior
    from ddip_ray.prior.network import NetworkConfig, build_network
    from ddip_ray.prior.training.train import SCHEDULE

    folder = tmp_path_factory.mktemp("priors")
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        network = build_network(NetworkConfig(channels=(8, 32)))
        save_prior(folder / name, network, SCHEDULE, {"image_range": [-1.0, 1.0]})
    return folder


@pytest.fixture
def words(small_scan: Path) -> list[str]:
    """A D3IP run of a second or so in this process; the prior is still to be named."""
    config = small_scan.parent / "run.yaml"
    config.write_text(TINY_RUN)
    return ["reconstruct", str(small_scan), "--config", str(config), "--executor", "local", "--workers", "1"]


def _fails(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    before = set(folder.rglob("*"))
    assert main(words) == 2
    assert set(folder.rglob("*")) == before
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed.err


def test_adapter_belongs_to_its_prior(
    priors: Path, words: list[str], small_scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = str(small_scan.parent / "first.zarr")
    assert main([*words, "--prior", str(priors / "one"), "-o", first]) == 0
    adapter = f"{first}/adapter.safetensors"
    assert f"adapter {adapter}" in capsys.readouterr().out
    again = [*words, "--adapter", adapter, "-o", str(small_scan.parent / "second.zarr")]
    message = _fails([*again, "--prior", str(priors / "two")], small_scan.parent, capsys)
    assert "made for the prior" in message
    assert "hint: " in message
    assert main([*again, "--prior", str(priors / "one")]) == 0


def test_adapter_that_is_none(
    priors: Path, words: list[str], small_scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, "--prior", str(priors / "one"), "--adapter"]
    assert "cannot be read" in _fails([*words, "no.safetensors"], small_scan.parent, capsys)
    config = str(small_scan.parent / "run.yaml")
    assert "not an adapter" in _fails([*words, config], small_scan.parent, capsys)


class Damage(NamedTuple):
    """What is done to ``card.json`` or ``config.json``, and what is said then."""

    file: str
    key: str
    value: object
    message: str


@pytest.mark.parametrize(
    "damage",
    [
        Damage("card.json", "digest", "0" * 64, "the weights' hash is"),
        Damage("config.json", "in_channels", 3, "diffusers UNet2DModel of one channel"),
        Damage("config.json", "block_out_channels", [16, 32], "the weights do not fit"),
        Damage(
            "scheduler_config.json", "beta_schedule", "squaredcos_cap_v2", "beta_schedule: Input should be"
        ),
        Damage("scheduler_config.json", "beta_start", "small", "beta_start: Input should be a valid number"),
        Damage(
            "scheduler_config.json", "prediction_type", "flow_prediction", "prediction_type: Input should"
        ),
        Damage(
            "scheduler_config.json", "rescale_betas_zero_snr", True, "rescale_betas_zero_snr: Input should"
        ),
    ],
    ids=lambda damage: str(damage.key),
)
def test_damaged_prior(
    damage: Damage,
    priors: Path,
    words: list[str],
    small_scan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prior = tmp_path / "damaged"
    shutil.copytree(priors / "one", prior)
    content = json.loads((prior / damage.file).read_text())
    (prior / damage.file).write_text(json.dumps({**content, damage.key: damage.value}))
    message = _fails([*words, "--prior", str(prior)], small_scan.parent, capsys)
    assert damage.message in message


def test_a_scheduler_of_another_kind(
    priors: Path, words: list[str], small_scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = tmp_path / "flow"
    shutil.copytree(priors / "one", prior)
    (prior / "scheduler_config.json").write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler"}')
    message = _fails([*words, "--prior", str(prior)], small_scan.parent, capsys)
    assert "trained with FlowMatchEulerDiscreteScheduler is not supported" in message
    assert "beta_schedule: Field required" in message


def test_disk_too_small(
    small_scan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 95, 5))
    words = ["reconstruct", str(small_scan), "--method", "fbp", "--workers", "1"]
    message = _fails(words, small_scan.parent, capsys)
    assert "5 bytes free" in message
    assert "Free some space" in message
