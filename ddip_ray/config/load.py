"""Read the configuration of a run from a file and flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ddip_ray.config.presets import overlaid, preset_values
from ddip_ray.config.settings import RunConfig
from ddip_ray.errors import InputError

RESTART_T = 200  # where an earlier reconstruction is taken up again, unless something else is said

__all__ = ["RunConfig", "load_config"]


def load_config(path: str | None, overrides: Mapping[str, Any]) -> RunConfig:
    """The preset, overlaid by a YAML file, overlaid by flags (``overrides``; None means not given).

    Raises:
        InputError: unreadable file, unknown key or bad value, one bullet for each.
    """
    values = given_settings(path, overrides)
    if values.get("start_from") is not None:
        values = overlaid({"sampler": {"start": "reconstruction", "start_t": RESTART_T}}, values)
    preset = values.get("preset", RunConfig.model_fields["preset"].default)
    method = values.get("method", RunConfig.model_fields["method"].default)
    try:
        return RunConfig.model_validate(overlaid(preset_values(preset, str(method)), values))
    except ValidationError as error:
        bullets = [f"\n  - {_explain(e)}" for e in error.errors()]
        raise InputError(f"configuration {path or 'given by flags'}:{''.join(bullets)}") from error


def given_settings(path: str | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a user said, no more: a YAML file, overlaid by flags (None means not given)."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = yaml.safe_load(Path(path).read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"configuration {path} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise InputError(
                f"configuration {path}: expected a mapping of settings, found {type(values).__name__}"
            )
    return overlaid(values, {k: v for k, v in overrides.items() if v is not None})


def _explain(error: Any) -> str:
    field = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{field}: unknown key"
    if error["type"] == "model_type":
        return f"{field}: expected a mapping of settings (found {error['input']!r})"
    if error["type"] == "value_error":  # our own, of several fields together
        return f"{field}: {error['ctx']['error']}".removeprefix(": ")
    return f"{field}: {error['msg']} (found {error['input']!r})"
