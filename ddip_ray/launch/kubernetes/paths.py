"""Whether what a command names is where its pods can reach it."""

from __future__ import annotations

import posixpath

from ddip_ray.errors import InputError
from ddip_ray.launch.command import LaunchedCommand
from ddip_ray.launch.kubernetes.site import Storage


def require_reachable(command: LaunchedCommand, store: str, output: str | None, storage: Storage) -> None:
    """Relative paths are meant on the claim, where the driver works.

    Raises:
        InputError: a path outside the claim, an object store the site has none of, results nowhere.
    """
    if command.name != "reconstruct" and storage.claim is None:
        raise InputError(
            f"{command.name} keeps a folder with a ledger, for which an object store will not do",
            "Give the site a storage.claim",
        )
    for word in command.words:
        given = word.partition("=")[2] if word.startswith("-") else word
        _require_known(given, storage)
    for path in (store, output or store):
        if storage.claim is None and "://" not in path:
            raise InputError(
                f"{path}: a path on a claim, and the site has no storage.claim", "Name it as s3://bucket/…"
            )


def _require_known(path: str, storage: Storage) -> None:
    kind, separator, _ = path.partition("://")
    if separator and kind == "s3" and storage.object_store is None:
        raise InputError(
            f"{path}: the site has no storage.object_store", "Name the Secret of its credentials"
        )
    if separator and kind == "gs":
        raise InputError(f"{path}: pods have no credentials for gs://", "Use s3:// or a path on the claim")
    if separator or not path.startswith(("/", "~")):
        return
    mount = storage.claim.mount_path if storage.claim else None
    if mount is None or not f"{posixpath.normpath(path)}/".startswith(f"{mount}/"):
        where = f"below {mount}, where the claim is mounted" if mount else "in the object store"
        raise InputError(
            f"{path}: pods do not see this path", f"Everything a job reads and writes is {where}"
        )
