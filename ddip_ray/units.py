"""Quantities in words."""

from __future__ import annotations


def format_bytes(number: int) -> str:
    """A number of bytes in words, for example "1.5 GiB"."""
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.4g} {unit}"
