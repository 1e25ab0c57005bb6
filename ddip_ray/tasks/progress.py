"""How a task reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[int, int, str], None]
"""A function that is told (done, total, a few words)."""


def silent(done: int, total: int, words: str) -> None:
    """The report that says nothing."""
