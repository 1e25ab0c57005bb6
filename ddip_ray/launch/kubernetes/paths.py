"""The check whether pods can reach the paths that a command names."""

from __future__ import annotations

import posixpath

from ddip_ray.errors import InputError
from ddip_ray.launch.command import LaunchedCommand
from ddip_ray.launch.kubernetes.site import Storage


def require_reachable(command: LaunchedCommand, store: str, output: str | None, storage: Storage) -> None:
    """Require that pods can reach all paths. Relative paths are on the claim, where the driver works.

    Args:
        command: the command to run.
        store: path of the acquisition, or the source of a cohort.
        output: path of the result; None: beside the acquisition.
        storage: the storage of the site.

    Raises:
        InputError: a path is outside the claim, or in an object store that the site does not have.
    """
    if command.name != "reconstruct" and storage.claim is None:
        raise InputError(
            f"{command.name} keeps a ledger in a folder, which cannot be in an object store",
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
