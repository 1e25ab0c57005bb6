"""Configurations: defaults of a method, old names of keys, the table of methods."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from pydantic import ValidationError

from ddip_ray.config.load import load_config
from ddip_ray.config.methods import METHODS
from ddip_ray.config.settings import RunConfig, SamplerSettings
from ddip_ray.errors import InputError


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_configuration_in_python_is_what_the_command_runs(name: str, preset: str) -> None:
    given = {"method": name, "preset": preset}
    assert (
        RunConfig.model_validate(given)
        == load_config(None, given)
        == RunConfig.for_method(name, preset=preset)
    )


def test_defaults_of_a_method_lie_below_what_is_given() -> None:
    assert RunConfig(method="d3ip").adaptation.policy == "auto"
    scd = RunConfig.for_method("scd", adaptation={"lora_rank": 7})
    assert (scd.adaptation.lora_rank, scd.adaptation.loss, scd.adaptation.num_adapt_steps) == (
        7,
        "measurements",
        1,
    )


def test_a_saved_configuration_is_read_back_as_it_was() -> None:
    config = RunConfig.for_method("d3ip", adaptation={"policy": "fixed"}, sampler={"num_steps": 7})
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("method", ["d3ipp", 3, ["d3ip"], None])
def test_a_method_that_does_not_exist(method: object) -> None:
    with pytest.raises(ValidationError, match="method"):
        RunConfig.model_validate({"method": method})


def test_old_keys_are_read_and_the_new_ones_named(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "sampler: {quiet_t: 50, quiet_cg_iterations: 30}\n"
        "adaptation: {judge: twins, num_twins: 2, enough_twins: 9, policy: fixed}\n"
    )
    with pytest.warns(FutureWarning) as warned:
        config = load_config(str(file), {})
    assert (config.sampler.noise_free_below_t, config.sampler.final_cg_iterations) == (50, 30)
    assert (config.adaptation.loss, config.adaptation.num_copies, config.adaptation.target_copies) == (
        "rescan",
        2,
        9,
    )
    said = [str(warning.message) for warning in warned]
    assert f"configuration {file}: sampler.quiet_t is now called sampler.noise_free_below_t" in said
    assert f"configuration {file}: adaptation.judge: twins is now called adaptation.loss: rescan" in said
    assert len(said) == 5


def test_an_old_key_beside_its_new_name_is_refused() -> None:
    with (
        pytest.raises(InputError, match=r"sampler\.noise_free_below_t is given twice"),
        pytest.warns(FutureWarning),
    ):
        load_config(None, {"sampler": {"quiet_t": 50, "noise_free_below_t": 60}})


def test_sections_may_be_settings_objects() -> None:
    assert RunConfig(method="dds", sampler=SamplerSettings(num_steps=3)).sampler.num_steps == 3


@pytest.mark.parametrize("name", METHODS)
def test_a_row_names_sections_and_a_builder_that_exist(name: str) -> None:
    row = METHODS[name]
    assert set(row.sections) <= set(RunConfig.model_fields)
    module, _, function = row.builder.partition(":")
    assert callable(getattr(import_module(module), function))
    assert row.title
    assert row.paper or name in ("fbp", "zero-filled")


def test_every_field_is_described() -> None:
    def undescribed(model: type, prefix: str = "") -> list[str]:
        found = []
        for field, info in model.model_fields.items():  # type: ignore[attr-defined]
            if not (info.description or "").endswith((".", ")")):
                found.append(prefix + field)
            if isinstance(info.annotation, type) and hasattr(info.annotation, "model_fields"):
                found += undescribed(info.annotation, f"{prefix}{field}.")
        return found

    assert undescribed(RunConfig) == []
