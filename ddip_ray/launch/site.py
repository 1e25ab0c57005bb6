"""Site files: one YAML file describes one cluster; the code itself knows no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ddip_ray.errors import InputError


class Site(BaseModel):
    """The settings of a site; they are frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Site)


def load_site(path: Path | None, kind: type[S]) -> S:
    """The site that a file describes.

    Args:
        path: the YAML file; None: every setting has its default.
        kind: the class of the site.

    Raises:
        InputError: the file cannot be read, or has unknown keys or bad values; one bullet for each.
    """
    if path is None:
        return kind()
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"site file {path} cannot be read: {error}") from error
    try:
        return kind.model_validate({} if values is None else values)
    except ValidationError as error:
        bullets = [f"\n  - {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise InputError(f"site file {path}:{''.join(bullets)}") from error
