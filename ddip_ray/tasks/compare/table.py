"""The table of a comparison."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ddip_ray.tasks.compare.compare import PLANES, Run

HEADINGS = (
    "method",
    "PSNR (dB)",
    "SSIM",
    *(f"{plane} {score}" for plane in PLANES for score in ("PSNR", "SSIM")),
    "residual",
    "NFE",
    "adapt NFE",
    "seconds",
    "peak MiB",
)


def table(runs: Sequence[Run]) -> list[list[str]]:
    """A row of `HEADINGS`, then a row for each method: means over seeds, ± the standard deviation of PSNR.

    NFE is the number of network calls a slice, and adapt NFE that of the whole adaptation; both depend on the
    seed where adaptation may stop early. Time is wall-clock time of the fastest seed, because machines are
    shared, and memory that of the worker that needed most; both include the start. A single CPU worker runs
    in this process, whose memory includes libraries that earlier methods loaded.
    """
    rows = [list(HEADINGS)]
    for name in dict.fromkeys(run.name for run in runs):
        own = [run for run in runs if run.name == name]
        volume = [run.psnr for run in own if run.psnr is not None]
        spread = f" ± {statistics.stdev(volume):.2f}" if len(volume) > 1 else ""
        row = [name, _mean(volume, 2) + spread, _mean([run.ssim for run in own], 4)]
        for plane in PLANES:
            pairs = [run.planes.get(plane, (None, None)) for run in own]
            row += [_mean([pair[0] for pair in pairs], 2), _mean([pair[1] for pair in pairs], 4)]
        row += [_mean([run.residual for run in own], 4)]
        row += [_mean([run.nfe for run in own], 0), _mean([run.adapt_nfe for run in own], 0)]
        row += [f"{min(run.seconds for run in own):.0f}"]
        row += [f"{max(run.peak_bytes for run in own) / 2**20:.0f}"]
        rows.append(row)
    return rows


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.{digits}f}" if known else "-"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first row its heading."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
