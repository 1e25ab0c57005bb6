"""What travels to machines that have neither the prior nor the adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddip_ray.config.load import load_config
from ddip_ray.engine.ray.driver_files import DriverFiles
from ddip_ray.errors import InputError


def contents(path: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


def test_a_folder_and_an_adapter(untrained_prior: Path, tmp_path: Path) -> None:
    adapter, here = tmp_path / "a.safetensors", tmp_path / "prior"
    adapter.write_bytes(b"adapter")
    untrained_prior.rename(here)
    try:
        config = load_config(None, {"method": "d3ip", "prior": str(here), "adapter": str(adapter)})
        files = DriverFiles.read(config, b"adapter")
        with files.unpacked(config) as same:
            assert same == config
        before = contents(str(here))
        here.rename(untrained_prior)
        adapter.unlink()
        with files.unpacked(config) as other:
            assert contents(other.prior) == before
            assert other.adapter is not None
            assert Path(other.adapter).read_bytes() == b"adapter"
        assert not Path(other.prior).exists()
    finally:
        if here.exists():
            here.rename(untrained_prior)


def test_a_pipeline_with_folders_in_it(tmp_path: Path) -> None:
    here = tmp_path / "pipeline"
    for name in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    config = load_config(None, {"method": "dds", "prior": str(here)})
    files = DriverFiles.read(config, None)
    here.rename(tmp_path / "elsewhere")
    with files.unpacked(config) as other:
        assert (Path(other.prior) / "unet" / "config.json").read_text() == "unet/config.json"
        assert (Path(other.prior) / "scheduler" / "scheduler_config.json").is_file()


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_a_checkpoint_and_what_stands_beside_it(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "ema.pt").write_bytes(b"weights")
    (tmp_path / f"ema{suffix}").write_text("model: {num_head_channels: 8}\n")
    (tmp_path / "other.pt").write_bytes(b"not needed")
    config = load_config(None, {"method": "dds", "prior": str(tmp_path / "ema.pt")})
    files = DriverFiles.read(config, None)
    (tmp_path / "ema.pt").unlink()
    with files.unpacked(config) as other:
        assert Path(other.prior).name == "ema.pt"
        assert sorted(contents(str(Path(other.prior).parent))) == sorted(["ema.pt", f"ema{suffix}"])


@pytest.mark.parametrize("values", [{"method": "dds"}, {"method": "tv", "prior": "nowhere"}])
def test_nothing_to_carry(values: dict[str, str]) -> None:
    assert DriverFiles.read(load_config(None, values), None).files == {}


def test_a_prior_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no prior 'nowhere'"):
        DriverFiles.read(load_config(None, {"method": "dds", "prior": "nowhere"}), None)
