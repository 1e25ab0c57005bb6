"""Whether a folder, or a part of a bucket, can be written by all nodes, and is the same for all."""

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

from ddip_ray.doctor.findings import Finding, Part, Status, Trouble, as_trouble, combined
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
class View:
    """What one process saw.

    ``missing`` names those whose files it does not see, ``locked`` is whether it saw the driver's lock, or
    why there are no locks. None where nobody tried; ``free`` is None for object stores.
    """

    trouble: str = ""
    free: int | None = None
    missing: tuple[str, ...] | None = None
    locked: bool | str | None = None


def write_own(path: str, folder: str, name: str) -> View:
    """One file of that name in a new folder of ``path``."""
    try:
        if paths.is_remote(path):
            paths.write_bytes(folder, name, name.encode())
            return View()
        if not paths.local_path(path).is_dir():
            return View("no such folder")
        paths.local_path(folder).mkdir(exist_ok=True)
        (paths.local_path(folder) / name).write_bytes(name.encode())
    except InputError as error:
        return View(error.message)
    except (OSError, ValueError) as error:
        return View(f"cannot be written: {_reason(error)}")
    return View(free=shutil.disk_usage(paths.local_path(path)).free)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or as_trouble(error).words


def missing_files(folder: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those that are not there, or cannot be read."""
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
    """Whether the driver's lock is seen; or why there can be no lock at all."""
    try:
        with (paths.local_path(folder) / _LOCK).open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in (errno.EACCES, errno.EAGAIN) else _reason(error)
    return False


def remove(folder: str) -> None:
    try:
        paths.delete_tree(folder)
    except (InputError, OSError, ValueError):
        return  # what cannot be written cannot be removed


def check_storage(probes: Probes, path: str) -> list[Finding]:
    """One finding a node and one of the driver."""
    path = paths.absolute(path)
    folder = paths.join(path, f".ddip-ray-doctor-{uuid.uuid4().hex[:12]}")
    try:
        views = _seen_by_all(probes, path, folder)
    finally:
        probes.ask(remove, folder)
        _in_time(_REMOVE_TIMEOUT, remove, folder)
    return [judge_storage(path, where, view) for where, view in views.items()]


def _seen_by_all(probes: Probes, path: str, folder: str) -> dict[str, View]:
    """Everyone writes; then everyone looks for what the others wrote, while the driver holds a lock."""
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
            View(answer.words) if isinstance(answer, Trouble) else replace(views[name], missing=answer)
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


def judge_storage(path: str, where: str, view: View) -> Finding:
    parts = list[Part]()
    if view.trouble:
        parts.append(Part(view.trouble, Status.FAIL, _WRITE))
    elif view.missing:
        words = f"does not see the files of {', '.join(view.missing[:5])}: not the same storage"
        parts.append(Part(words, Status.FAIL, _SHARE))
    else:
        parts.append(Part("writable" if view.missing is None else "writable, the same for all"))
    if view.locked is True:
        parts.append(Part("locks are seen"))
    elif view.locked is False:
        parts.append(Part("does not see the lock of another node", Status.FAIL, _LOCKS))
    elif isinstance(view.locked, str):
        parts.append(Part(f"files cannot be locked: {view.locked}", Status.FAIL, _LOCKS))
    if view.free is not None:
        parts.append(_judge_space(view.free))
    first = replace(parts[0], found=f"{path}: {parts[0].found}")
    return combined("storage", where, [first, *parts[1:]])


def _judge_space(free: int) -> Part:
    words = f"{format_bytes(free)} free"
    if free >= LOW_SPACE:
        return Part(words)
    return Part(words, Status.FAIL if free < NO_SPACE else Status.WARN, "Free some space there.")


def _as_view(answer: View | Trouble) -> View:
    return View(answer.words) if isinstance(answer, Trouble) else answer


def _in_time(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of this process, or a `Trouble`: a network file system may never return."""
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
