"""Writing a store beside its target and publishing it in one step, so that no half-written store is seen.

A local store is written to a temporary sibling folder, which is then renamed. Object stores cannot rename: a
new store is written in place and becomes visible when its root document is written last; a replacement is
written beside the old store and copied over it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.paths import StorePath
from ddip_ray.io.stores import arrays
from ddip_ray.io.stores.schema import ATTRIBUTE_KEY

_MARKER = ".ddip-ray-unfinished"


@dataclass(frozen=True)
class Staging:
    """Where a store is being written (``temporary``) and where it will be (``target``); picklable."""

    target: str
    temporary: str

    @property
    def in_place(self) -> bool:
        """Whether the store is written where it will stay (a new remote store)."""
        return self.target == self.temporary


def begin(path: StorePath, overwrite: bool, *, is_result: bool) -> Staging:
    """Choose where a new store for ``path`` is written; InputError when something is there already.

    With ``overwrite`` a result may replace a result, and an acquisition an acquisition.
    """
    target = paths.absolute(path)
    if paths.scheme(path) in ("http", "https"):
        raise InputError(f"{path}: the web can only be read", "Write to a local path, s3:// or gs://")
    with paths.storage_errors(path):
        begin_there = _begin_remote if paths.is_remote(path) else _begin_local
        return begin_there(target, overwrite, is_result)


def _begin_local(target: str, overwrite: bool, is_result: bool) -> Staging:
    folder, name = os.path.split(target)
    if not Path(folder).is_dir():
        raise InputError(f"{target}: there is no folder {folder}", "Create it or correct the path")
    _remove_leftovers(Path(folder), name)
    if Path(target).exists():
        _require_replaceable(target, overwrite, is_result)
    staging = Staging(target, f"{folder}/.{name}.partial-{_owner()}-{secrets.token_hex(4)}")
    paths.make_folder(staging.temporary)
    return staging


def _begin_remote(target: str, overwrite: bool, is_result: bool) -> Staging:
    if not paths.exists(target):
        return _mark(Staging(target, target))
    if paths.read_bytes(target, _MARKER) is not None and paths.read_bytes(target, arrays.ROOT_KEY) is None:
        paths.delete_tree(target)  # an attempt of ours that died
        return _mark(Staging(target, target))
    _require_replaceable(target, overwrite, is_result)
    return _mark(Staging(target, f"{target}.partial-{secrets.token_hex(4)}"))


def _mark(staging: Staging) -> Staging:
    paths.write_bytes(staging.temporary, _MARKER, b"")
    return staging


def _require_replaceable(target: str, overwrite: bool, is_result: bool) -> None:
    if not overwrite:
        raise InputError(
            f"{target}: already exists", "Choose another name, or replace it with `overwrite=True`"
        )
    try:
        ours = arrays.read_attributes(target).get(ATTRIBUTE_KEY)
    except InputError:
        ours = None
    # overwriting a folder of photographs must not delete the photographs,
    if not isinstance(ours, dict):
        raise InputError(
            f"{target}: not a store written by ddip-ray, so it is not replaced", "Choose another name"
        )
    # and overwriting with a result must not delete measurements
    if (ours.get("kind") == "result") != is_result:
        there, new = ("an acquisition", "a result") if is_result else ("a result", "an acquisition")
        raise InputError(f"{target}: {there}, which {new} does not replace", "Choose another name")


def publish(staging: Staging, root_document: bytes) -> None:
    """Make the finished store appear at its target under ``root_document``."""
    if not paths.is_remote(staging.target):
        paths.write_bytes(staging.temporary, arrays.ROOT_KEY, root_document)
        with paths.storage_errors(staging.target):
            _rename_into_place(Path(staging.temporary), Path(staging.target))
        return
    if not staging.in_place:
        _replace_remote(staging)
    paths.write_bytes(staging.target, arrays.ROOT_KEY, root_document)
    with paths.storage_errors(staging.target):
        paths.open_kvstore(staging.target).write(_MARKER, None).result()
    if not staging.in_place:
        paths.delete_tree(staging.temporary)


def _rename_into_place(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    aside = temporary.with_name(temporary.name.replace(".partial-", ".replaced-"))
    target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside)


def _replace_remote(staging: Staging) -> None:
    old, new = paths.open_kvstore(staging.target), paths.open_kvstore(staging.temporary)
    with paths.storage_errors(staging.target):
        # until the new root is written there is no store, rather than a mixture of two
        old.write(arrays.ROOT_KEY, None).result()
        paths.delete_tree(staging.target)
        for key in new.list().result():
            old.write(key, new.read(key).result().value).result()


def abort(staging: Staging) -> None:
    """Remove what was written so far and leave the target as it was; harmless after `publish`."""
    if not staging.in_place or paths.read_bytes(staging.target, arrays.ROOT_KEY) is None:
        paths.delete_tree(staging.temporary)


@contextmanager
def aborting(staging: Staging) -> Iterator[None]:
    """A context that aborts the store when its block raises."""
    try:
        yield
    except BaseException:
        abort(staging)
        raise


def _owner() -> str:
    return f"{re.sub(r'[^A-Za-z0-9]', '_', socket.gethostname())}-{os.getpid()}"


def _remove_leftovers(folder: Path, name: str) -> None:
    """Remove temporary folders of this target whose process on this machine was killed."""
    host = _owner().rsplit("-", 1)[0]
    pattern = re.compile(rf"\.{re.escape(name)}\.partial-{re.escape(host)}-(\d+)-[0-9a-f]{{8}}")
    for entry in folder.iterdir():
        match = pattern.fullmatch(entry.name)
        if match and not _alive(int(match[1])):
            shutil.rmtree(entry, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
