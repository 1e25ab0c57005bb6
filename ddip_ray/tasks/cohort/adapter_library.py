"""Adapters to start from, learned from earlier volumes: one for each tag, in versions."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ddip_ray.adaptation.averaging import mean_with, volumes_of
from ddip_ray.errors import InputError

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def require_tag(tag: str) -> None:
    """InputError unless it can name a folder."""
    if _TAG.fullmatch(tag) is None:
        raise InputError(f"tag {tag!r}: expected letters, digits, dots, dashes and underscores")


@dataclass(frozen=True)
class AdapterLibrary:
    """In ``folder``/TAG/000007.safetensors. A version never changes; it says which volumes it is of."""

    folder: Path

    def latest(self, tag: str) -> Path | None:
        """The last version for a scanner or protocol; None before the first."""
        versions = sorted((self.folder / tag).glob("*.safetensors"))
        return versions[-1] if versions else None

    @staticmethod
    def volumes(version: Path) -> tuple[str, ...]:
        """What it was learned from."""
        return volumes_of(version.read_bytes())

    def add(self, tag: str, adapter: bytes, volume: str) -> Path:
        """A new version, the mean over all its volumes; any number of drivers may add at the same time.

        A volume that is among them already adds nothing.

        Raises:
            InputError: an adapter of another prior or rank than the others'.
        """
        folder = self.folder / tag
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            last = self.latest(tag)
            before = None if last is None else last.read_bytes()
            if last is not None and before is not None and volume in volumes_of(before):
                return last
            target = folder / f"{1 if last is None else int(last.stem) + 1:06d}.safetensors"
            if _is_created(target, mean_with(before, adapter, volume, str(last))):
                return target


def _is_created(path: Path, data: bytes) -> bool:
    """Whole, and only if there was none: another driver may have been faster."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return False
    return True
