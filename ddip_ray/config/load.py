"""Read the configuration of a run from a file and flags."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ddip_ray.config.methods import overlaid
from ddip_ray.config.renamed import old_names
from ddip_ray.config.settings import RunConfig
from ddip_ray.errors import InputError


def load_config(path: str | None, overrides: Mapping[str, Any]) -> RunConfig:
    """The method's preset, overlaid by a YAML file, overlaid by ``overrides`` (None means not given).

    Old names of keys are read, and a `FutureWarning` says the new ones.

    Raises:
        InputError: the file cannot be read, a key is unknown or a value is bad; one bullet for each.
    """
    values, source = given_settings(path, overrides), path or "given by flags"
    for sentence in old_names(values):
        warnings.warn(f"configuration {source}: {sentence}", FutureWarning, stacklevel=2)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        bullets = [f"\n  - {_explain(e)}" for e in error.errors()]
        raise InputError(f"configuration {source}:{''.join(bullets)}") from error


def given_settings(path: str | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Only what a user gave: a YAML file, overlaid by ``overrides`` (None means not given)."""
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
