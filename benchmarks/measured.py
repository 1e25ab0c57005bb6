"""What the benchmarks on measured data share: their options, their table, their pictures."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ddip_ray.tasks.prior_card import draw_rows

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
# Of a scan's name, methods and a folder to work in and one for pictures, or none: the table's rows.
Compare = Callable[[str, list[str], str, Path | None], list[str]]


def write_table(
    script: str, doc: str | None, *, title: str, note: str, columns: list[str], scans: Iterable[str],
    methods: str, output: str, compare: Compare,
) -> None:  # fmt: skip
    """Measure what the command line asks for and write it to ``output`` in the folder of results."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scans", default=",".join(scans))
    parser.add_argument("--methods", default=methods)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--output", type=Path, default=HERE / "results" / output)
    args = parser.parse_args()
    rows = [row(columns), "|" + "---|" * len(columns)]
    with tempfile.TemporaryDirectory() as folder:
        for name in args.scans.split(","):
            rows += compare(name, args.methods.split(","), folder, args.pictures)
    command = shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]])
    where = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    args.output.write_text("\n".join([f"# {title}", "", f"`{command}`. {where}. {note}", "", *rows]) + "\n")


def row(cells: Iterable[object]) -> str:
    """Of a markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def decided(notes: Iterable[str]) -> str:
    """What a run found and did, without the figures that made it do so."""
    return "; ".join(note.split(";")[0] for note in notes)


def draw(folder: Path | None, name: str, volumes: dict[str, NDArray[np.float32]]) -> None:
    """Three slices of each, a row a volume, on one grey scale; no folder, no picture."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    num_slices = len(next(iter(volumes.values())))
    chosen = np.unique(np.linspace(0, num_slices - 1, 3).round().astype(int))
    images = {title: volume[chosen] for title, volume in volumes.items()}
    (folder / f"{name}.png").write_bytes(draw_rows(images))
