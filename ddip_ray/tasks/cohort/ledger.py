"""The ledger of a cohort: which volumes there are, who works on which, and what came of it.

SQLite, for its transactions: drivers on several machines may share a ledger on a file system that locks
files, and a driver that dies leaves every row as it was before or after a change. The journal is rolled back,
not written ahead, which would need memory that all drivers share.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from ddip_ray.errors import InputError, Unavailable
from ddip_ray.io import paths

LEDGER = "cohort.sqlite"
MAX_DEATHS = 5  # of drivers that work on a volume, until it is left alone
LEASE = 120.0  # seconds after which a driver that was not heard of has lost its volumes
_BUSY_TIMEOUT = 60.0
_VERSION = 1


class State(StrEnum):
    """Of a volume. A failed one is left alone; one that may do better next time is waiting."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Entry:
    """A volume of the cohort. Times in seconds, those of day since 1970.

    ``deaths`` of its ``attempts`` ended with the driver.

    ``settings`` lie over the defaults of `RunConfig`; ``tag`` names a scanner or protocol, and ``adapter`` is
    what its adaptation starts from ("": not decided, "none": from nothing). ``num_bytes`` of measurements, 0
    where nobody knows.
    """

    name: str
    store: str
    output: str
    settings: dict[str, Any] = field(default_factory=dict)
    tag: str = "default"
    adapter: str = ""
    num_bytes: int = 0
    state: State = State.WAITING
    attempts: int = 0
    deaths: int = 0
    not_before: float = 0.0
    owner: str = ""
    seen: float = 0.0
    num_workers: int = 0
    step: int = 0
    num_steps: int = 0
    started: float | None = None
    seconds: float | None = None
    residual: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    error: str = ""


_COLUMNS = tuple(f.name for f in fields(Entry))


def this_driver() -> str:
    """Who works on a volume: this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Ledger:
    """Every call is one transaction; any thread may call."""

    def __init__(self, folder: Path) -> None:
        """Of the cohort in ``folder``; InputError when there is none."""
        self.path = folder / LEDGER
        if not self.path.exists():
            raise InputError(f"{folder}: no cohort ({LEDGER} is missing)", "Begin one: ddip-ray cohort run")
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise InputError(f"{self.path}: of version {version}, expected {_VERSION}")

    @classmethod
    def begin(cls, folder: Path, options: dict[str, Any]) -> Ledger:
        """The cohort in ``folder``, new or begun earlier; ``options`` replace earlier ones."""
        paths.make_folder(folder)
        with _transaction(folder / LEDGER) as db:
            if db.execute("PRAGMA user_version").fetchone() == (0,):
                db.execute(f"CREATE TABLE volumes ({', '.join(_COLUMNS)}, PRIMARY KEY (name))")
                db.execute("CREATE TABLE options (document)")
                db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("DELETE FROM options")
            db.execute("INSERT INTO options VALUES (?)", (json.dumps(options),))
        return cls(folder)

    @property
    def options(self) -> dict[str, Any]:
        """What `begin` was given."""
        with self._transaction() as db:
            (document,) = db.execute("SELECT document FROM options").fetchone()
        found: dict[str, Any] = json.loads(document)
        return found

    def add(self, entries: list[Entry]) -> int:
        """Those that are not there yet; how many.

        Raises:
            InputError: one of that name is there, of another store or with other settings; none is added.
        """
        added = 0
        with self._transaction() as db:
            for entry in entries:
                found = _entries(db, "WHERE name = ?", entry.name)
                if not found:
                    marks = ", ".join("?" * len(_COLUMNS))
                    db.execute(f"INSERT INTO volumes VALUES ({marks})", _row(entry))
                    added += 1
                elif (found[0].store, found[0].settings) != (entry.store, entry.settings):
                    raise InputError(
                        f"{self.path}: {entry.name} is there already, of {found[0].store} with "
                        f"{found[0].settings}; now it is of {entry.store} with {entry.settings}",
                        "Give another folder with -o, or the volume another name.",
                    )
        return added

    def entries(self) -> list[Entry]:
        """All, by name."""
        with self._transaction() as db:
            return _entries(db, "ORDER BY name")

    def num_waiting(self, owner: str) -> int:
        """Volumes that nobody works on, and that are not at their end, as seen by one driver."""
        with self._transaction() as db:
            _release_orphans(db, owner)
            (number,) = db.execute(
                "SELECT COUNT(*) FROM volumes WHERE state = ?", (State.WAITING,)
            ).fetchone()
        return int(number)

    def claim(self, owner: str, but_not: Collection[str] = ()) -> Entry | None:
        """The largest volume that waits, now ``owner``'s; None when there is none for now.

        ``but_not`` names what its driver is still busy with, though another may have taken it over. Volumes
        with which drivers died come last.
        """
        now = time.time()
        with self._transaction() as db:
            _release_orphans(db, owner)
            waiting = _entries(
                db,
                f"WHERE state = ? AND not_before <= ? AND name NOT IN ({', '.join('?' * len(but_not))}) "
                "ORDER BY deaths, num_bytes DESC, name LIMIT 1",
                State.WAITING,
                now,
                *but_not,
            )
            if not waiting:
                return None
            name = waiting[0].name
            _set(
                db,
                name,
                state=State.RUNNING,
                owner=owner,
                seen=now,
                attempts=waiting[0].attempts + 1,
                started=now,
                step=0,
                num_steps=0,
                error="",
            )
            return _entries(db, "WHERE name = ?", name)[0]

    def update(self, name: str, owner: str, **values: Any) -> bool:
        """Set columns of a volume, whose owner is alive; False when it is not ``owner``'s any more."""
        with self._transaction() as db:
            mine = _entries(db, "WHERE name = ? AND owner = ? AND state = ?", name, owner, State.RUNNING)
            if mine:
                _set(db, name, seen=time.time(), **values)
        return bool(mine)

    def give_up(self, name: str, owner: str, error: str, *, wait: float) -> None:
        """Back to those that wait, for ``wait`` seconds at least."""
        self.update(name, owner, state=State.WAITING, not_before=time.time() + wait, error=error)

    def interrupted(self, entry: Entry, owner: str) -> None:
        """Back to those that wait, as if it had not been tried."""
        self.update(entry.name, owner, state=State.WAITING, attempts=entry.attempts - 1)

    def retry_failed(self) -> int:
        """All that failed wait again, with all their attempts; how many."""
        with self._transaction() as db:
            failed = _entries(db, "WHERE state = ?", State.FAILED)
            for entry in failed:
                _set(db, entry.name, state=State.WAITING, attempts=0, deaths=0, not_before=0.0)
        return len(failed)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _transaction(self.path) as db:
            yield db


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """One at a time; all of it happens, or nothing."""
    try:
        db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        finally:
            db.close()  # without a COMMIT, as it was
    except sqlite3.Error as error:
        raise Unavailable(f"{path}: {error}", "Is it on a disk with space left that locks files?") from error


def _row(entry: Entry) -> list[Any]:
    return [json.dumps(value) if isinstance(value, dict) else value for value in asdict(entry).values()]


def _entries(db: sqlite3.Connection, where: str, *values: Any) -> list[Entry]:
    rows = db.execute(f"SELECT {', '.join(_COLUMNS)} FROM volumes {where}", values).fetchall()
    found = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    return [
        Entry(**{**row, "settings": json.loads(row["settings"]), "state": State(row["state"])})
        for row in found
    ]


def _set(db: sqlite3.Connection, name: str, **values: Any) -> None:
    columns = ", ".join(f"{column} = ?" for column in values)
    db.execute(f"UPDATE volumes SET {columns} WHERE name = ?", (*values.values(), name))


def _release_orphans(db: sqlite3.Connection, owner: str) -> None:
    """Volumes of other drivers that are dead, or have not been heard of, wait again; not for ever."""
    for entry in _entries(db, "WHERE state = ? AND owner != ?", State.RUNNING, owner):
        if time.time() - entry.seen > LEASE or _is_dead(entry.owner):
            deaths = entry.deaths + 1
            died = {"state": State.WAITING, "error": f"its driver {entry.owner} died or was not heard of"}
            if deaths >= MAX_DEATHS:
                died = {"state": State.FAILED, "error": f"{deaths} drivers died or were not heard of"}
            _set(db, entry.name, owner="", deaths=deaths, **died)


def _is_dead(owner: str) -> bool:
    """Known at once of a process of this machine."""
    host, _, process = owner.rpartition(":")
    return (
        host == socket.gethostname() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists()
    )
