"""Quantities in words for people, and in JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def format_bytes(number: int) -> str:
    """A number of bytes in words, such as ``1.5 GiB``."""
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.4g} {unit}"


def finite_or_null(value: Any) -> Any:
    """Plain data in which numbers that are not finite are None, because JSON has no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    return value
