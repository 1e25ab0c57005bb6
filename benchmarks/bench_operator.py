"""Speed of the projector against the per-view rotate-and-sum loop of published code.

    python benchmarks/bench_operator.py

Prints a markdown table and writes it to benchmarks/results/operator.md.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numba
import torch
import torch.nn.functional as F
from torch import Tensor

from ddip_ray.operators import ParallelBeam, ParallelBeamGeometry

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]
RESULTS = Path(__file__).parent / "results" / "operator.md"


class Yardstick(Protocol):
    def forward(self, x: Tensor) -> Tensor:
        """(z, y, x) to (z, view, detector)."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """Something like the transpose."""
        ...


class Loop:
    """The yardstick: for each view, rotate all slices with grid_sample and sum the rows.

    Work and memory order are those of the published code: the image is padded to its diagonal, slices
    are a batch, each with its own copy of the grid, sinograms are (z, 1, detector, view). Its "adjoint"
    samples the sinogram, as a picture of detectors by views, over the padded square for each view and
    crops the sum: not the transpose. Grids are made once, outside the timing.
    """

    def __init__(self, size: int, num_views: int, num_detectors: int) -> None:
        self.size, self.num_detectors = size, num_detectors
        self.before = (num_detectors - size) // 2
        self.forward_grids, self.adjoint_grids = [], []
        column = torch.linspace(-1, 1, num_detectors)
        y, x = torch.meshgrid(column, column, indexing="ij")
        for view in range(num_views):
            cos, sin = math.cos(math.pi * view / num_views), math.sin(math.pi * view / num_views)
            # Sample coordinates in units of half the source's side; y grows with the row.
            rotate = torch.tensor([[[cos, -sin, 0.0], [-sin, -cos, 0.0]]])
            shape = (1, 1, num_detectors, num_detectors)
            self.forward_grids.append(F.affine_grid(rotate, shape, align_corners=False))
            here = torch.full_like(x, (2 * view + 1) / num_views - 1)
            self.adjoint_grids.append(torch.stack([here, x * cos - y * sin], dim=-1)[None])

    def forward(self, x: Tensor) -> Tensor:
        after = self.num_detectors - self.size - self.before
        padded = F.pad(x[:, None], (self.before, after, self.before, after))
        out = x.new_zeros(len(x), 1, self.num_detectors, len(self.forward_grids))
        for view, grid in enumerate(self.forward_grids):
            rotated = F.grid_sample(padded, grid.repeat(len(x), 1, 1, 1), align_corners=False)
            out[..., view] = rotated.sum(2)
        return out[:, 0].transpose(1, 2)

    def adjoint(self, y: Tensor) -> Tensor:
        picture = y.transpose(1, 2)[:, None]
        image = y.new_zeros(len(y), 1, self.num_detectors, self.num_detectors)
        for grid in self.adjoint_grids:
            image += F.grid_sample(picture, grid.repeat(len(y), 1, 1, 1), align_corners=False)
        inside = slice(self.before, self.before + self.size)
        return image[:, 0, inside, inside]


class KinderLoop:
    """The same per-view loop, written with care: no padding, one grid for all slices, one row a view."""

    def __init__(self, size: int, num_views: int, num_detectors: int) -> None:
        self.size = size
        self.forward_grids, self.adjoint_grids = [], []
        for view in range(num_views):
            cos, sin = math.cos(math.pi * view / num_views), math.sin(math.pi * view / num_views)
            out, back = num_detectors / size, size / num_detectors
            rotate = torch.tensor([[[cos * out, -sin * out, 0.0], [-sin * out, -cos * out, 0.0]]])
            smear = torch.tensor([[[cos * back, -sin * back, 0.0], [0.0, 0.0, 0.0]]])
            shape = (1, 1, num_detectors, num_detectors)
            self.forward_grids.append(F.affine_grid(rotate, shape, align_corners=False))
            self.adjoint_grids.append(F.affine_grid(smear, (1, 1, size, size), align_corners=False))

    def forward(self, x: Tensor) -> Tensor:
        views = [F.grid_sample(x[None], grid, align_corners=False)[0].sum(1) for grid in self.forward_grids]
        return torch.stack(views, dim=1)

    def adjoint(self, y: Tensor) -> Tensor:
        image = y.new_zeros(len(y), self.size, self.size)
        for view, grid in enumerate(self.adjoint_grids):
            image += F.grid_sample(y[None, :, view, None, :], grid, align_corners=False)[0]
        return image


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="torch threads, for all (default: torch's choice)")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu: processor time, which other programs on the machine disturb less (use with --threads 1)",
    )
    parser.add_argument("--no-large", action="store_true", help="skip the 1024², 1440-view forward")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()

    global clock  # noqa: PLW0603
    clock = CLOCKS[args.clock]
    if args.threads:
        torch.set_num_threads(args.threads)
    # The large one first: the loops would raise the peak memory that it reports.
    large = [] if args.no_large else large_forward()
    text = "\n".join(
        [
            "# Parallel-beam projector against a per-view `grid_sample` loop",
            "",
            *describe_machine(args.clock),
            "",
            *compare(args.size, args.views, args.slices, args.rounds),
            *large,
        ]
    )
    print(text)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(text + "\n", encoding="utf-8")


def describe_machine(clock_name: str) -> list[str]:
    command = shlex.join(["python", "benchmarks/bench_operator.py", *sys.argv[1:]])
    return [
        f"- {datetime.date.today()}, {cpu_name()}, {torch.get_num_threads()} threads, "
        f"{platform.system()} {platform.machine()}",
        f"- Python {platform.python_version()}, torch {torch.__version__}, numba {numba.__version__}",
        f"- `{command}`: float32, medians over interleaved rounds, {clock_name} time; "
        f"load average at the end {os.getloadavg()[0]:.1f}",
    ]


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )


def compare(size: int, num_views: int, slice_counts: Sequence[int], rounds: int) -> list[str]:
    num_detectors = math.ceil(size * math.sqrt(2))
    angles = [math.pi * view / num_views for view in range(num_views)]
    operator = ParallelBeam(ParallelBeamGeometry.centered((size, size), angles, num_detectors))
    loops = [kind(size, num_views, num_detectors) for kind in (Loop, KinderLoop)]
    check_same_scan(operator, loops)
    lines = [
        f"{size}², {num_views} views, {num_detectors} detector columns. Milliseconds, forward / adjoint; "
        "ratio of the sums against the loop as published and against one written with care (no padding, one "
        "grid for all slices).",
        "",
        "| slices | ours | loop as published | with care | ratio, as published | ratio, with care |",
        "|---|---|---|---|---|---|",
    ]
    for num_slices in slice_counts:
        times = interleaved(operator, loops, num_slices, rounds)
        sums = [forward + adjoint for forward, adjoint in times]
        cells = [f"{1e3 * forward:.1f} / {1e3 * adjoint:.1f}" for forward, adjoint in times]
        ratios = [f"{loop / sums[0]:.0f}×" for loop in sums[1:]]
        lines.append(f"| {num_slices} | {' | '.join([*cells, *ratios])} |")
    return lines


def check_same_scan(operator: ParallelBeam, loops: Sequence[Yardstick]) -> None:
    """A yardstick that measures another scan would be worthless."""
    size = operator.image_shape[0]
    x = torch.zeros(1, size, size)
    x[:, size // 3 : size // 2, size // 4 : size // 3] = 1.0
    y = operator.forward(x)
    for loop in loops:
        difference = float((loop.forward(x) - y).norm() / y.norm())
        if difference > 0.15:  # the padding of an odd margin moves the image by half a pixel
            raise SystemExit(f"the yardstick's sinogram differs from ours by {difference:.0%}")
        # Its "adjoint" has a scale of its own.
        ours, theirs = operator.adjoint(y), loop.adjoint(y)
        likeness = float(F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0))
        if likeness < 0.99:
            raise SystemExit(f"the yardstick's back-projection has a cosine of {likeness:.3f} with ours")


def interleaved(
    operator: ParallelBeam, loops: Sequence[Yardstick], num_slices: int, rounds: int
) -> list[tuple[float, float]]:
    """Median seconds of (forward, adjoint) of the operator, then of each loop."""
    contenders = [operator, *loops]
    inputs = []
    for contender in contenders:
        x = torch.rand(num_slices, *operator.image_shape)
        if contender is operator:  # each gets the layout in which it is fed inside a solver
            x = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        inputs.append((x, contender.forward(x)))
    times: list[list[tuple[float, float]]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, (x, y), record in zip(contenders, inputs, times, strict=True):
            repeats = 5 if contender is operator else 1
            forward = statistics.median(
                seconds(lambda c=contender, x=x: c.forward(x)) for _ in range(repeats)
            )
            adjoint = statistics.median(
                seconds(lambda c=contender, y=y: c.adjoint(y)) for _ in range(repeats)
            )
            record.append((forward, adjoint))
    return [
        (statistics.median(f for f, _ in record), statistics.median(a for _, a in record)) for record in times
    ]


def large_forward() -> list[str]:
    """One forward and adjoint of a size whose matrix would not fit, and its memory."""
    size, num_views = 1024, 1440
    angles = [math.pi * view / num_views for view in range(num_views)]
    num_detectors = math.ceil(size * math.sqrt(2))
    operator = ParallelBeam(ParallelBeamGeometry.centered((size, size), angles, num_detectors))
    x = torch.rand(2, size, size)
    before = peak_mib()
    y: list[Tensor] = []
    forward = seconds(lambda: y.append(operator.forward(x)))
    adjoint = seconds(lambda: operator.adjoint(y[0]))
    return [
        "",
        f"{size}², {num_views} views, {num_detectors} columns, 2 slices: forward {forward:.1f} s, adjoint "
        f"{adjoint:.1f} s; the process's peak memory went from {before:.0f} to {peak_mib():.0f} MiB.",
    ]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seconds(call: Callable[[], object]) -> float:
    start = clock()
    call()
    return clock() - start


if __name__ == "__main__":
    main()
