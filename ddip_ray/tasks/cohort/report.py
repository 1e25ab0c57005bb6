"""What came of a cohort: a table for a spreadsheet, and a picture a volume."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.tasks.cohort.ledger import Entry, State
from ddip_ray.tasks.judge.montage import montage

COLUMNS = (
    "name", "state", "attempts", "num_workers", "seconds", "residual", "psnr", "ssim", "error", "store",
    "output",
)  # fmt: skip


def write_csv(entries: Sequence[Entry], path: Path) -> None:
    """A row a volume, sorted by name; what is not known is empty."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for entry in entries:
            values = [getattr(entry, column) for column in COLUMNS]
            writer.writerow(["" if value is None else value for value in values])
    partial.replace(path)


def write_pictures(entries: Sequence[Entry], folder: Path, say: Callable[[str], None]) -> list[Path]:
    """NAME.png of what is done, in ``folder``; ``say`` is told of what cannot be drawn."""
    paths.make_folder(folder)
    written = []
    for entry in entries:
        if entry.state != State.DONE:
            continue
        path = folder / f"{entry.name}.png"
        partial = path.with_name(path.name + ".partial")
        try:
            partial.write_bytes(montage(entry.output))
        except InputError as error:
            say(f"{entry.name}: no picture: {error}")
            continue
        partial.replace(path)
        written.append(path)
    return written
