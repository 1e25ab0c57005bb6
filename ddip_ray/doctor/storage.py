"""The check whether all nodes can write to a folder or a part of a bucket, and see the same one."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import IO, Any

from ddip_ray.doctor.findings import Finding, Observation, Status, Trouble, as_trouble, combined
from ddip_ray.doctor.nodes import Probes
from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.units import format_bytes

LOW_SPACE, NO_SPACE = 10 * 10**9, 10**9  # bytes
DRIVER = "the driver"
_LOCK = "lock"
_REMOVE_TIMEOUT = 10.0  # seconds
_SHARE = "Mount one and the same storage there, at the same path on all nodes."
_WRITE = "Create it, or mount it there, with write permission for the user that runs Ray."
_LOCKS = "Mount it with locks (NFS: without nolock or local_lock), or keep cohorts elsewhere."


@dataclass(frozen=True)
class StorageView:
    """One process's view of the storage.

    Attributes:
        trouble: why it could not write; empty if it could.
        free: free bytes; None for object stores.
        missing: names of the nodes whose files it does not see; None if it did not look.
        locked: whether it saw the driver's lock, or why files cannot be locked; None if it did not look.
    """

    trouble: str = ""
    free: int | None = None
    missing: tuple[str, ...] | None = None
    locked: bool | str | None = None


def write_own(path: str, folder: str, name: str) -> StorageView:
    """Write one file ``name`` into ``folder``, which is a new folder in ``path``; returns how that went."""
    try:
        if paths.is_remote(path):
            paths.write_bytes(folder, name, name.encode())
            return StorageView()
        if not paths.local_path(path).is_dir():
            return StorageView("no such folder")
        paths.local_path(folder).mkdir(exist_ok=True)
        (paths.local_path(folder) / name).write_bytes(name.encode())
    except InputError as error:
        return StorageView(error.message)
    except (OSError, ValueError) as error:
        return StorageView(f"cannot be written: {_reason(error)}")
    return StorageView(free=shutil.disk_usage(paths.local_path(path)).free)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or as_trouble(error).words


def missing_files(folder: str, names: Iterable[str]) -> tuple[str, ...]:
    """The ``names`` whose files are not in ``folder``, or cannot be read."""
    missing = []
    for name in names:
        try:
            there = paths.read_bytes(folder, name) == name.encode()
        except (InputError, OSError, ValueError):
            there = False
        if not there:
            missing.append(name)
    return tuple(missing)


def sees_lock(folder: str) -> bool | str:
    """Whether this process sees the driver's lock in ``folder``, or why files cannot be locked."""
    try:
        with (paths.local_path(folder) / _LOCK).open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in (errno.EACCES, errno.EAGAIN) else _reason(error)
    return False


def remove(folder: str) -> None:
    """Delete ``folder``; does nothing if it cannot be written."""
    try:
        paths.delete_tree(folder)
    except (InputError, OSError, ValueError):
        return  # what cannot be written cannot be removed


def check_storage(probes: Probes, path: str) -> list[Finding]:
    """Check that every node and the driver can write to ``path`` and see each other's files and locks."""
    path = paths.absolute(path)
    folder = paths.join(path, f".ddip-ray-doctor-{uuid.uuid4().hex[:12]}")
    try:
        views = _seen_by_all(probes, path, folder)
    finally:
        probes.ask(remove, folder)
        _in_time(_REMOVE_TIMEOUT, remove, folder)
    return [judge_storage(path, where, view) for where, view in views.items()]


def _seen_by_all(probes: Probes, path: str, folder: str) -> dict[str, StorageView]:
    """Let everyone write a file, then look for the files of the others and for a lock of the driver."""
    views = {DRIVER: _as_view(_in_time(probes.patience, write_own, path, folder, DRIVER))}
    written = probes.request({name: ("ask", (write_own, path, folder, name)) for name in probes.nodes})
    views |= {name: _as_view(answer) for name, answer in written.items()}
    writers = [name for name, view in views.items() if not view.trouble]
    if DRIVER not in writers:
        return views
    missing = {DRIVER: _in_time(probes.patience, missing_files, folder, writers)}
    missing |= probes.ask(missing_files, folder, writers)
    for name in writers:
        answer = missing.get(name, Trouble("no answer"))
        views[name] = (
            StorageView(answer.words) if isinstance(answer, Trouble) else replace(views[name], missing=answer)
        )
    if paths.is_remote(path):
        return views
    sharing = [
        name for name in writers if not views[name].trouble and DRIVER not in (views[name].missing or ())
    ]
    locks = _locks_seen(probes, folder, [name for name in sharing if name != DRIVER])
    return views | {name: replace(views[name], locked=locked) for name, locked in locks.items()}


def _locks_seen(probes: Probes, folder: str, names: list[str]) -> dict[str, bool | str]:
    held = _in_time(probes.patience, _hold_lock, folder)
    if isinstance(held, Trouble):
        return {DRIVER: held.words}
    with held:
        answers = probes.request({name: ("ask", (sees_lock, folder)) for name in names})
    return {name: a.words if isinstance(a, Trouble) else a for name, a in answers.items()}


def _hold_lock(folder: str) -> IO[bytes]:
    file = (paths.local_path(folder) / _LOCK).open("w+b")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fsync(file.fileno())
    except OSError:
        file.close()
        raise
    return file


def judge_storage(path: str, where: str, view: StorageView) -> Finding:
    """Judge what the process ``where`` saw of the storage at ``path``."""
    parts = list[Observation]()
    if view.trouble:
        parts.append(Observation(view.trouble, Status.FAIL, _WRITE))
    elif view.missing:
        words = f"does not see the files of {', '.join(view.missing[:5])}: not the same storage"
        parts.append(Observation(words, Status.FAIL, _SHARE))
    else:
        parts.append(Observation("writable" if view.missing is None else "writable, the same for all"))
    if view.locked is True:
        parts.append(Observation("locks are seen"))
    elif view.locked is False:
        parts.append(Observation("does not see the lock of another node", Status.FAIL, _LOCKS))
    elif isinstance(view.locked, str):
        parts.append(Observation(f"files cannot be locked: {view.locked}", Status.FAIL, _LOCKS))
    if view.free is not None:
        parts.append(_judge_space(view.free))
    first = replace(parts[0], found=f"{path}: {parts[0].found}")
    return combined("storage", where, [first, *parts[1:]])


def _judge_space(free: int) -> Observation:
    words = f"{format_bytes(free)} free"
    if free >= LOW_SPACE:
        return Observation(words)
    return Observation(words, Status.FAIL if free < NO_SPACE else Status.WARN, "Free some space there.")


def _as_view(answer: StorageView | Trouble) -> StorageView:
    return StorageView(answer.words) if isinstance(answer, Trouble) else answer


def _in_time(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of this process, or a `Trouble` after ``seconds``: a network file system may hang."""
    answers = list[Any]()

    def answer() -> None:
        try:
            answers.append(function(*arguments))
        except OSError as error:
            answers.append(as_trouble(error))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else Trouble(f"no answer for {seconds:.0f} s")
