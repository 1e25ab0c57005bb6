"""How a task says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[int, int, str], None]
"""(done, total, a few words)."""


def silent(done: int, total: int, words: str) -> None:
    """Tell nobody."""
