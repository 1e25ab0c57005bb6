"""The outcome of a cohort: a table for a spreadsheet, and a picture of each volume."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.tasks.cohort.ledger import Entry, VolumeState
from ddip_ray.tasks.judge.montage import montage

COLUMNS = (
    "name", "state", "attempts", "num_workers", "seconds", "residual", "psnr", "ssim", "error", "store",
    "output",
)  # fmt: skip


def write_csv(entries: Sequence[Entry], path: Path) -> None:
    """Write a CSV file with a row for each volume; unknown values are empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for entry in entries:
        values = [getattr(entry, column) for column in COLUMNS]
        writer.writerow(["" if value is None else value for value in values])
    paths.replace_file(path, text.getvalue().encode())


def write_pictures(entries: Sequence[Entry], folder: Path, warn: Callable[[str], None]) -> list[Path]:
    """Write NAME.png of each finished volume into ``folder``; ``warn`` is told which cannot be drawn."""
    paths.make_folder(folder)
    written = []
    for entry in entries:
        if entry.state != VolumeState.DONE:
            continue
        path = folder / f"{entry.name}.png"
        try:
            paths.replace_file(path, montage(entry.output))
        except InputError as error:
            warn(f"{entry.name}: no picture: {error}")
            continue
        written.append(path)
    return written
