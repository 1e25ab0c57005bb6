"""Tables of file formats: a reader is a row, and the first row that fits a file reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Read = TypeVar("Read", bound=Callable[..., object])


def _always(path: Path) -> bool:
    return True


@dataclass(frozen=True)
class Format(Generic[Read]):
    """A file format, how a file of it is recognised, and the function that reads one.

    ``suffixes`` are ends of lower-case file names, empty for formats whose files may be called anything.
    ``recognises`` looks into a file whose name fits, where several formats share a suffix.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Read
    recognises: Callable[[Path], bool] = _always

    def fits(self, path: Path) -> bool:
        """Whether the file at ``path`` has this format."""
        has_name = not self.suffixes or path.name.lower().endswith(self.suffixes)
        return has_name and self.recognises(path)


def find_format(path: Path, formats: Sequence[Format[Read]]) -> Format[Read] | None:
    """The first of ``formats`` that fits the file at ``path``, or None."""
    return next((row for row in formats if row.fits(path)), None)


def listed(formats: Sequence[Format[Read]]) -> str:
    """The formats with their suffixes, for a message."""
    return ", ".join(f"{row.name} ({', '.join(row.suffixes)})" for row in formats)
