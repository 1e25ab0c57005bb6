"""A library of adapters learned from earlier volumes, one for each tag, in versions."""

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
    """InputError unless ``tag`` can name a folder."""
    if _TAG.fullmatch(tag) is None:
        raise InputError(f"tag {tag!r}: expected letters, digits, dots, dashes and underscores")


@dataclass(frozen=True)
class AdapterLibrary:
    """Adapters in files ``folder``/TAG/000007.safetensors.

    A version never changes. It is the mean of the adapters of several volumes, and records which.
    """

    folder: Path

    def latest(self, tag: str) -> Path | None:
        """The last version for a scanner or protocol, or None if there is none."""
        versions = sorted((self.folder / tag).glob("*.safetensors"))
        return versions[-1] if versions else None

    @staticmethod
    def volumes(version: Path) -> tuple[str, ...]:
        """The names of the volumes that a version was learned from."""
        return volumes_of(version.read_bytes())

    def add(self, tag: str, adapter: bytes, volume: str) -> Path:
        """Add a volume's adapter to the mean and return the new version; drivers may add at the same time.

        A volume that is in the mean already adds nothing.

        Args:
            tag: Scanner or protocol.
            adapter: Content of the volume's adapter file.
            volume: Name of the volume.

        Raises:
            InputError: the adapter belongs to another prior, or has another rank than the others.
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
    """Create a file whole; False if it exists already, because another driver was faster."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return False
    return True
