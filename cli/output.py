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
    """One JSON document on stdout; a number that is not finite becomes null."""
    print(json.dumps(finite_or_null(value), indent=1, ensure_ascii=False))


def print_acquisition(path: str, as_json: bool) -> None:
    """What a new acquisition is, and what to do with it."""
    from ddip_ray.io.stores.summary import summarize
    from ddip_ray.tasks.describe import in_words

    facts = summarize(path)
    if as_json:
        print_json(facts)
    else:
        print(format_fields(in_words(facts)))
        print(f"\nnext: ddip-ray reconstruct {path}")


def format_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Aligned columns, the first row a heading; the columns in ``right`` flush right."""
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
    """Name and value, one pair a line, the values aligned; a value of several lines is indented."""
    width = max(map(len, fields), default=0) + 2
    return "\n".join(
        f"{name:{width}}{value}".replace("\n", "\n" + " " * width).rstrip() for name, value in fields.items()
    )


def format_seconds(seconds: float) -> str:
    """``0:07``, ``12:30``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(title: str) -> Iterator[Report]:
    """A live bar when stderr is a terminal, otherwise a plain line every tenth, or every ten seconds."""
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
        print(f"{title} {done}/{total}  {words}".rstrip(), file=sys.stderr, flush=True)

    return report
