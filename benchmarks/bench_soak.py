"""Forty reconstructions in one Ray cluster: does anything grow?

    python benchmarks/bench_soak.py

writes results/soak.md and .png. `ddip-ray cohort run` reconstructs 40 volumes of 8 slices of 64 x 64, every
other one by D3IP and by DDS, on two workers. Twice a second the proportional set size (pages that are shared
count in part) of the driver, of Ray's own processes and of every worker is read from /proc.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from abdomen import CT, binned
from cohort_command import COMMAND, scan_ct, status
from heading import heading
from measured import row
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
THICKNESS, BINNING, WORKERS, EVERY = 8, 2, 2, 0.5
WORKER = "ray::WorkerActor"
Sample = tuple[float, int, int, int, dict[int, int]]  # s, done, bytes: driver, Ray, of each worker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--volumes", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cohort = make(folder, args.volumes)
        words = ["cohort", "run", str(cohort), "-o", str(folder / "out"), "--workers", str(WORKERS)]
        process = subprocess.Popen([*COMMAND, *words])
        samples = list(watch(process, folder / "out"))
        failed = sum(entry["state"] != "done" for entry in status(folder / "out").values())
    if process.returncode or failed:
        raise RuntimeError(f"exit code {process.returncode}, {failed} volumes failed")
    write(samples, args.volumes)


def make(folder: Path, number: int) -> Path:
    volume, stores = binned(CT, BINNING), []
    for k in range(8):
        stores.append(folder / f"z{k}.zarr")
        scan_ct(volume[40 + k : 40 + k + THICKNESS], stores[-1])
    few = {"sampler": {"num_steps": 20}, "adaptation": {"policy": "fixed", "num_adapt_steps": 1}}
    volumes = [
        {
            "store": str(stores[k % len(stores)]),
            "name": f"v{k:03}",
            "config": {"method": "d3ip" if k % 2 else "dds", "seed": k} | few,
        }
        for k in range(number)
    ]
    path = folder / "cohort.yaml"
    path.write_text(yaml.safe_dump({"volumes": volumes}))
    return path


def watch(process: subprocess.Popen[bytes], out: Path) -> Iterator[Sample]:
    """A sample every half second, while the command runs."""
    begun = time.monotonic()
    while process.poll() is None:
        time.sleep(EVERY)
        found = {pid: (name, pss(pid)) for pid, name in descendants(process.pid).items()}
        workers = {pid: size for pid, (name, size) in found.items() if name.startswith(WORKER)}
        others = sum(size for pid, (name, size) in found.items() if pid not in workers)
        driver = pss(process.pid)
        if driver:
            yield time.monotonic() - begun, len(list(out.glob("*.zarr"))), driver, others, workers


def descendants(root: int) -> dict[int, str]:
    """Names by pid."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                name = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
            except OSError:  # gone
                continue
            parents[int(folder.name)], names[int(folder.name)] = int(fields[1]), name
    found, generation = {}, [root]
    while generation:
        generation = [pid for pid, parent in parents.items() if parent in generation]
        found |= {pid: names[pid] for pid in generation}
    return found


def pss(pid: int) -> int:
    """Bytes; 0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def write(samples: list[Sample], number: int) -> None:
    seconds = np.array([sample[0] for sample in samples])
    done = np.array([sample[1] for sample in samples])
    driver, others = (np.array([sample[k] for sample in samples]) / 2**20 for k in (2, 3))
    pids = sorted({pid for sample in samples for pid in sample[4]})
    curves = {pid: np.array([sample[4].get(pid, 0) for sample in samples]) / 2**20 for pid in pids}
    lines = heading(
        f"{number} reconstructions in one cluster",
        f"DDS and D3IP by turns, {THICKNESS} slices of 64², {WORKERS} workers, {len(pids)} of them after one "
        f"another, {seconds[-1]:.0f} s. MiB (proportional set size): medians of the driver and of Ray's "
        "processes while so many were done, and the highest of any worker.",
    )
    lines += [row(["done", "driver", "Ray", "workers"]), "|---|---|---|---|"]
    edges = range(0, number, 5)
    for low in edges:
        here = (done >= low) & (done < low + 5)
        peak = max(float(curve[here].max()) for curve in curves.values())
        cells = [np.median(driver[here]), np.median(others[here]), peak]
        lines.append(row([f"{low} to {low + 4}", *(f"{cell:.0f}" for cell in cells)]))
    late = done >= number // 4
    slopes = [per_volume(done[late], of[late]) for of in (driver, others)]
    words = f"the driver {slopes[0]:+.2f} MiB a volume, Ray {slopes[1]:+.2f}"
    lines += ["", f"From the {number // 4}th volume on, by a straight line: {words}."]
    (RESULTS / "soak.md").write_text("\n".join(lines) + "\n")
    draw(seconds, driver, others, curves)


def per_volume(done: NDArray[np.int64], size: NDArray[np.float64]) -> float:
    return float(np.polyfit(done, size, 1)[0])


def draw(
    seconds: NDArray[np.float64],
    driver: NDArray[np.float64],
    others: NDArray[np.float64],
    workers: dict[int, NDArray[np.float64]],
) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    for k, curve in enumerate(workers.values()):
        alive = curve > 0
        axis.plot(seconds[alive], curve[alive], color="0.7", lw=0.8, label=None if k else "workers, each")
    axis.plot(seconds, driver, label="driver")
    axis.plot(seconds, others, label="Ray's processes, all")
    axis.set(xlabel="seconds", ylabel="MiB", ylim=(0, None))
    axis.legend()
    figure.savefig(RESULTS / "soak.png", dpi=100)


if __name__ == "__main__":
    main()
