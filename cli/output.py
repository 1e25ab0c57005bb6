"""How commands print: results to stdout, everything else to stderr, so that ``--json`` can be piped."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ddip_ray.units import finite_or_null

Report = Callable[[int, int, str], None]  # (done, total, a few words)
MIN_SECONDS, MAX_SECONDS = 2.0, 10.0  # between two lines of a log


def print_json(value: Any) -> None:
    """Print ``value`` as one JSON document on stdout; numbers that are not finite become null."""
    print(json.dumps(finite_or_null(value), indent=1, ensure_ascii=False))


def say(text: str) -> None:
    """Print a line for a person on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def format_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """``rows`` as text with aligned columns, those in ``right`` flush right; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def format_fields(fields: Mapping[str, str]) -> str:
    """``fields`` as text: a name and its value on each line, values aligned, their further lines indented."""
    width = max(map(len, fields), default=0) + 2
    return "\n".join(
        f"{name:{width}}{value}".replace("\n", "\n" + " " * width).rstrip() for name, value in fields.items()
    )


def format_seconds(seconds: float) -> str:
    """``seconds`` as ``0:07``, ``12:30`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(title: str) -> Iterator[Report]:
    """Show progress on stderr: a live bar on a terminal, otherwise a line per tenth or every ten seconds."""
    if sys.stderr.isatty():
        with _bar(title) as report:
            yield report
    else:
        yield _line_printer(title)


@contextmanager
def _bar(title: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, words="")
        yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)


def _line_printer(title: str) -> Report:
    last_tenth, last_time = -1, -math.inf

    def report(done: int, total: int, words: str) -> None:
        nonlocal last_tenth, last_time
        tenth, now = 10 * done // max(total, 1), time.monotonic()
        passed = now - last_time
        if done != total and not (passed >= MAX_SECONDS or (tenth > last_tenth and passed >= MIN_SECONDS)):
            return
        last_tenth, last_time = tenth, now
        say(f"{title} {done}/{total}  {words}".rstrip())

    return report
