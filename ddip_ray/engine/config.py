"""Read the configuration of a run from a file and flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ddip_ray.errors import InputError
from ddip_ray.solvers.settings import RunConfig

__all__ = ["RunConfig", "load_config"]


def load_config(path: str | None, overrides: dict[str, Any]) -> RunConfig:
    """Defaults, overlaid by a YAML file, overlaid by flags (``overrides``; None means not given).

    Raises:
        InputError: unreadable file, unknown key or bad value, one bullet for each.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = yaml.safe_load(Path(path).read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"configuration {path} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise InputError(
                f"configuration {path}: expected a mapping of settings, found {type(values).__name__}"
            )
    values.update({k: v for k, v in overrides.items() if v is not None})
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        bullets = [f"\n  - {'.'.join(map(str, e['loc']))}: {_explain(e)}" for e in error.errors()]
        raise InputError(f"configuration {path or 'given by flags'}:{''.join(bullets)}") from error


def _explain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key"
    return f"{error['msg']} (found {error['input']!r})"
