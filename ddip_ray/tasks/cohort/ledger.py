"""The ledger of a cohort: its volumes, the drivers that work on them, and their results.

A ledger is an SQLite database, for its transactions: drivers on several machines can share it on a file
system with file locks, and a driver that dies leaves every row as it was before or after a change. It uses a
rollback journal, because a write-ahead log would need memory that all drivers share.
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
MAX_DEATHS = 5  # drivers that may die with a volume before it counts as failed
LEASE = 120.0  # seconds without a sign of life after which a driver loses its volumes
_BUSY_TIMEOUT = 60.0
_VERSION = 1


class VolumeState(StrEnum):
    """The state of a volume; one that failed but will be tried again is waiting."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Entry:
    """A volume of the cohort: a row of the ledger.

    Attributes:
        name: Name of the volume, unique in the cohort.
        store: Path of its acquisition.
        output: Path of its result.
        settings: Settings of its run, over the defaults of its method.
        tag: Scanner or protocol; volumes of a tag share an adapter.
        adapter: The adapter that its adaptation starts from; "" is undecided and "none" is no adapter.
        num_bytes: Bytes of its measurements, 0 if unknown.
        state: Whether it waits, runs, is done or has failed.
        attempts: Number of attempts so far.
        deaths: Number of attempts during which the driver died.
        not_before: Time (seconds since 1970) before which it is not tried again.
        owner: The driver that works on it.
        seen: Time of the owner's last sign of life.
        num_workers: Workers of the running attempt.
        step: Step that the attempt has reached.
        num_steps: Steps of the attempt.
        started: Time at which the attempt began.
        seconds: Duration of the reconstruction.
        residual: ‖A x − y‖/‖y‖ of the result.
        psnr: PSNR of the result in dB, if there is a reference.
        ssim: SSIM of the result, if there is a reference.
        error: Why the last attempt failed.
    """

    name: str
    store: str
    output: str
    settings: dict[str, Any] = field(default_factory=dict)
    tag: str = "default"
    adapter: str = ""
    num_bytes: int = 0
    state: VolumeState = VolumeState.WAITING
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
    """The name of this process as an owner of volumes: host and process number."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Ledger:
    """The ledger of a cohort; every call is one transaction, and any thread may call."""

    def __init__(self, folder: Path, lease: float = LEASE) -> None:
        """Open the ledger in ``folder``; InputError when there is none.

        ``lease`` is the time in seconds after which a driver that gives no sign of life loses its volumes.
        """
        self.path, self.lease = folder / LEDGER, lease
        if not self.path.exists():
            raise InputError(f"{folder}: no cohort ({LEDGER} is missing)", "Begin one: ddip-ray cohort run")
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise InputError(f"{self.path}: version {version}, expected {_VERSION}")

    @classmethod
    def begin(cls, folder: Path, options: dict[str, Any], lease: float = LEASE) -> Ledger:
        """The ledger in ``folder``, new or begun earlier; ``options`` replace earlier ones."""
        paths.make_folder(folder)
        with _transaction(folder / LEDGER) as db:
            if db.execute("PRAGMA user_version").fetchone() == (0,):
                db.execute(f"CREATE TABLE volumes ({', '.join(_COLUMNS)}, PRIMARY KEY (name))")
                db.execute("CREATE TABLE options (document)")
                db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("DELETE FROM options")
            db.execute("INSERT INTO options VALUES (?)", (json.dumps(options),))
        return cls(folder, lease)

    @property
    def options(self) -> dict[str, Any]:
        """The options that `begin` was given."""
        with self._transaction() as db:
            (document,) = db.execute("SELECT document FROM options").fetchone()
        found: dict[str, Any] = json.loads(document)
        return found

    def add(self, entries: list[Entry]) -> int:
        """Add volumes that are not in the ledger yet, and return their number.

        Raises:
            InputError: a volume has the name of one with another store or other settings; none is added.
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
                        f"{self.path}: {entry.name} is there already, from {found[0].store} with "
                        f"{found[0].settings}; now it is from {entry.store} with {entry.settings}",
                        "Give another `output` folder, or the volume another name.",
                    )
        return added

    def entries(self) -> list[Entry]:
        """All volumes, sorted by name."""
        with self._transaction() as db:
            return _entries(db, "ORDER BY name")

    def num_waiting(self, owner: str) -> int:
        """The number of waiting volumes, after ``owner`` has released those of dead drivers."""
        with self._transaction() as db:
            _release_orphans(db, owner, self.lease)
            (number,) = db.execute(
                "SELECT COUNT(*) FROM volumes WHERE state = ?", (VolumeState.WAITING,)
            ).fetchone()
        return int(number)

    def claim(self, owner: str, but_not: Collection[str] = ()) -> Entry | None:
        """Take the largest waiting volume for ``owner``; None if no volume can be taken now.

        Volumes named in ``but_not`` are left, because the driver is still busy with them even though another
        driver may have taken them over. Volumes with which drivers died come last.
        """
        now = time.time()
        with self._transaction() as db:
            _release_orphans(db, owner, self.lease)
            waiting = _entries(
                db,
                f"WHERE state = ? AND not_before <= ? AND name NOT IN ({', '.join('?' * len(but_not))}) "
                "ORDER BY deaths, num_bytes DESC, name LIMIT 1",
                VolumeState.WAITING,
                now,
                *but_not,
            )
            if not waiting:
                return None
            name = waiting[0].name
            _set(
                db,
                name,
                state=VolumeState.RUNNING,
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
        """Set columns of a volume and note a sign of life; False if ``owner`` has lost the volume."""
        with self._transaction() as db:
            mine = _entries(
                db, "WHERE name = ? AND owner = ? AND state = ?", name, owner, VolumeState.RUNNING
            )
            if mine:
                _set(db, name, seen=time.time(), **values)
        return bool(mine)

    def give_up(self, name: str, owner: str, error: str, *, wait: float) -> None:
        """Let a volume wait after a failed attempt, for at least ``wait`` seconds."""
        self.update(name, owner, state=VolumeState.WAITING, not_before=time.time() + wait, error=error)

    def interrupted(self, entry: Entry, owner: str) -> None:
        """Let a volume wait as if the running attempt had not been made."""
        self.update(entry.name, owner, state=VolumeState.WAITING, attempts=entry.attempts - 1)

    def retry_failed(self) -> int:
        """Let all failed volumes wait again with no attempt counted, and return their number."""
        with self._transaction() as db:
            failed = _entries(db, "WHERE state = ?", VolumeState.FAILED)
            for entry in failed:
                _set(db, entry.name, state=VolumeState.WAITING, attempts=0, deaths=0, not_before=0.0)
        return len(failed)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _transaction(self.path) as db:
            yield db


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction: no other runs at the same time, and an exception undoes all of it."""
    try:
        db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        finally:
            db.close()  # without a COMMIT, the file is as it was
    except sqlite3.Error as error:
        raise Unavailable(
            f"{path}: {error}", "Check that its disk has space and supports file locks"
        ) from error


def _row(entry: Entry) -> list[Any]:
    return [json.dumps(value) if isinstance(value, dict) else value for value in asdict(entry).values()]


def _entries(db: sqlite3.Connection, where: str, *values: Any) -> list[Entry]:
    rows = db.execute(f"SELECT {', '.join(_COLUMNS)} FROM volumes {where}", values).fetchall()
    found = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    return [
        Entry(**{**row, "settings": json.loads(row["settings"]), "state": VolumeState(row["state"])})
        for row in found
    ]


def _set(db: sqlite3.Connection, name: str, **values: Any) -> None:
    columns = ", ".join(f"{column} = ?" for column in values)
    db.execute(f"UPDATE volumes SET {columns} WHERE name = ?", (*values.values(), name))


def _release_orphans(db: sqlite3.Connection, owner: str, lease: float) -> None:
    """Let volumes of dead or silent drivers wait again; those with too many deaths fail."""
    for entry in _entries(db, "WHERE state = ? AND owner != ?", VolumeState.RUNNING, owner):
        if time.time() - entry.seen > lease or _is_dead(entry.owner):
            deaths = entry.deaths + 1
            died = {
                "state": VolumeState.WAITING,
                "error": f"its driver {entry.owner} died or gave no sign of life",
            }
            if deaths >= MAX_DEATHS:
                died = {
                    "state": VolumeState.FAILED,
                    "error": f"{deaths} drivers died or gave no sign of life",
                }
            _set(db, entry.name, owner="", deaths=deaths, **died)


def _is_dead(owner: str) -> bool:
    """Whether a driver on this machine is known to be dead; of other machines nothing is known."""
    host, _, process = owner.rpartition(":")
    return (
        host == socket.gethostname() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists()
    )
