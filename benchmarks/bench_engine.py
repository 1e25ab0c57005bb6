"""Time of one DDS and one D3IP timestep, and what a second worker gains.

    python benchmarks/bench_engine.py

writes results/engine.md. The volume is made of phantoms; layouts take turns, so that they meet the
same load of the machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from ddip_ray.config.load import load_config
from ddip_ray.engine.events import StepEvent
from ddip_ray.engine.planning.layout import ExecutorName
from ddip_ray.engine.run import reconstruct
from ddip_ray.prior.training.phantoms import random_ellipses
from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate

RESULTS = Path(__file__).parent / "results" / "engine.md"
METHODS = ("dds", "d3ip")
LAYOUTS: dict[str, tuple[ExecutorName, int]] = {
    "in process": ("local", 1),
    "1 Ray worker": ("ray", 1),
    "2 Ray workers": ("ray", 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=30)
    parser.add_argument("--steps", type=int, default=9, help="timesteps a run; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    times: dict[tuple[str, str], list[float]] = {(m, name): [] for m in METHODS for name in LAYOUTS}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/phantoms.npy", random_ellipses(args.slices, args.size, 0)[:, 0].numpy())
        store = f"{folder}/scan.zarr"
        simulate(f"{folder}/phantoms.npy", store, Scan(args.views, window=(0.0, 1.0)))
        for _ in range(args.rounds):
            for (method, name), seconds in times.items():
                seconds.extend(timesteps(store, f"{folder}/out.zarr", method, *LAYOUTS[name], args.steps))
    text = "\n".join([*header(args), *table({key: statistics.median(v) for key, v in times.items()})])
    print(text)
    args.output.write_text(text + "\n")


def timesteps(
    store: str, output: str, method: str, executor: ExecutorName, num_workers: int, num_steps: int
) -> list[float]:
    """Seconds of each timestep but the first, which compiles and warms up.

    Those of D3IP are of its second pass, and all adapt, as those near the end of a real trajectory do.
    """
    events: list[StepEvent] = []
    settings = {
        "method": method,
        "sampler": {"num_steps": num_steps},
        "adaptation": {"adapt_start_t": 999},
    }
    reconstruct(
        store,
        output,
        load_config(None, settings),
        num_workers=num_workers,
        executor=executor,
        overwrite=True,
        on_event=events.append,
    )
    return [b.seconds - a.seconds for a, b in itertools.pairwise(events[-num_steps:])]


def header(args: argparse.Namespace) -> list[str]:
    command = shlex.join(["python", "benchmarks/bench_engine.py", *sys.argv[1:]])
    return [
        "# One timestep, and scaling from one worker to two",
        "",
        f"`{command}`: {args.slices} slices of {args.size}², "
        f"{args.views} views, medians over {args.rounds} interleaved rounds of {args.steps - 1} timesteps. "
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; "
        f"load average at the end {os.getloadavg()[0]:.1f}.",
        "",
    ]


def table(medians: dict[tuple[str, str], float]) -> list[str]:
    lines = ["| method | layout | seconds a timestep | speed-up | ratio to DDS |", "|---|---|---|---|---|"]
    for (method, name), seconds in medians.items():
        speed_up = medians[method, "in process"] / seconds
        to_dds = seconds / medians["dds", name]
        lines.append(f"| {method} | {name} | {seconds:.2f} | {speed_up:.2f}× | {to_dds:.1f}× |")
    return lines


if __name__ == "__main__":
    main()
