"""Every method of the papers on real volumes: from few views, with noise, from a limited angle, of 64 slices.

    python benchmarks/bench_methods.py --folder FOLDER

writes results/methods.md; a picture a scan and what is reconstructed stay in FOLDER. Scores are kept in
results/methods/SCAN.json, and what is there, made with the same settings, is not made again: seeds can be
added a few at a time, and scans side by side. The objects, of ../shared/data, are an abdominal CT and the MR
image of a head, on both of which settings were chosen: README says which. All settings but those of named
variants are the defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from abdomen import CT, binned

from ddip_ray.config.load import load_config
from ddip_ray.config.names import SamplingPattern
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.planning.layout import Layout
from ddip_ray.tasks.acquire.kspace_scan import KSpaceScan
from ddip_ray.tasks.acquire.measurement_noise import parse_noise
from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate
from ddip_ray.tasks.acquire.simulate_mri import simulate_mri
from ddip_ray.tasks.compare.compare import Run, compare
from ddip_ray.tasks.compare.files import ComparisonFiles
from ddip_ray.tasks.compare.table import markdown, table

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
MRI = DATA / "mri_t1_datalad" / "mri_t1_128.npz"
SCORES, TABLE = HERE / "results" / "methods", HERE / "results" / "methods.md"
SLICES = "54:66"  # of 112; SSIM of the other planes needs more than 10


@dataclass(frozen=True)
class Scanned:
    """A scan, and the volume it is of: a file, averaged over ``binning``² pixels of a slice."""

    title: str
    scan: Scan | KSpaceScan
    volume: Path = CT
    binning: int = 1


def few(views: int, **scan: Any) -> Scan:
    return Scan(views, **{"window": (-1000.0, 1000.0), "slices": SLICES, **scan})


def head(acceleration: float, pattern: SamplingPattern, num_coils: int) -> KSpaceScan:
    noise = parse_noise("gaussian:0.02")
    return KSpaceScan(pattern, acceleration, num_coils=num_coils, slices=SLICES, noise=noise)


NOISE = parse_noise("gaussian:0.01")
SCANS = {
    "8": Scanned("8 views", few(8)),
    "30": Scanned("30 views", few(30)),
    "60": Scanned("60 views", few(60)),
    "60-over-120": Scanned("60 views over 120 degrees", few(60, angular_range_deg=120.0)),
    "30-noisy": Scanned("30 views with 1 % of noise", few(30, noise=NOISE)),
    "60-noisy": Scanned("60 views with 1 % of noise", few(60, noise=NOISE)),
    "30-head": Scanned("30 views of the head", few(30, window=None), MRI),
    "mri-4x": Scanned("MRI, 4-fold by lines, 8 coils", head(4, "uniform1d", 8), MRI),
    "mri-4x-1-coil": Scanned("MRI, 4-fold by lines, one coil", head(4, "uniform1d", 1), MRI),
    "mri-4x-1-coil-random": Scanned("MRI, 4-fold by random lines, one coil", head(4, "random1d", 1), MRI),
    "mri-8x": Scanned("MRI, 8-fold by Poisson discs, 8 coils", head(8, "poisson", 8), MRI),
    "mri-8x-1-coil": Scanned("MRI, 8-fold by Poisson discs, one coil", head(8, "poisson", 1), MRI),
    "30-small": Scanned("30 views of 12 slices of 64 x 64", few(30), binning=2),
    "64-slices": Scanned("30 views of 64 slices of 64 x 64", few(30, slices="24:88"), binning=2),
}
# Not a method's default: CG from zero at each timestep; DiffusionMBIR with sweeps to convergence at each
# timestep, and by ADMM on data and total variation together, as published; SCD at ten times its rate; without
# or with held-out views that decide, what they make of other ranks, rates and steps; the papers' settings.
VARIANTS: dict[str, dict[str, Any]] = {
    "dds-cold": {"method": "dds", "sampler": {"cg_warm_start": False}},
    "diffusionmbir-slow": {
        "method": "diffusionmbir",
        "mbir": {"cold": True, "sweeps": 500},
        "sampler": {"cg_iterations": 100, "final_cg_iterations": 100},  # sweeps go on from the last one's
    },
    "diffusionmbir-admm": {"method": "diffusionmbir", "mbir": {"admm": {}}},
    "scd-faster": {"method": "scd", "adaptation": {"learning_rate": 1e-4}},
    "d3ip-fixed": {"method": "d3ip", "adaptation": {"policy": "fixed"}},
    "d3ip-rank-4": {"method": "d3ip", "adaptation": {"lora_rank": 4}},
    "d3ip-rate-x2": {"method": "d3ip", "adaptation": {"learning_rate": 2e-3}},
    "d3ip-rate-x0.5": {"method": "d3ip", "adaptation": {"learning_rate": 5e-4}},
    "d3ip-4-steps": {"method": "d3ip", "adaptation": {"num_adapt_steps": 4}},
    "d3ip-mbir-auto": {"method": "d3ip-mbir", "adaptation": {"policy": "auto"}},
    "d3ip-paper": {"method": "d3ip", "preset": "paper"},
    "ddip-paper": {"method": "ddip", "preset": "paper"},
}
METHODS = "fbp,cg,tv,ddnm,diffpir,dds,diffusionmbir,scd,d3ip,d3ip-fixed,d3ip-mbir,d3ip-meta"
OTHERS = ",".join(["zero-filled", *sorted(VARIANTS.keys() - {"d3ip-fixed"}), "dps", "score-sde", "ddip"])
Rows = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--scans", default="8,30,60,60-over-120", help=f"of {', '.join(SCANS)}")
    parser.add_argument(
        "--methods",
        default=METHODS,
        help=f"also {OTHERS}",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    methods = args.methods.split(",")
    for seed in range(args.seeds):
        for scan in args.scans.split(","):
            for method in methods:
                measure(scan, method, seed, args.folder, args.workers)
    for scan in args.scans.split(","):
        draw(scan, methods, args.folder)
    write_table()


def measure(scan: str, method: str, seed: int, folder: Path, num_workers: int) -> None:
    store, config = folder / f"{scan}.zarr", config_of(method)
    if seed > 0 and not config.uses_prior:
        return
    same = [row for row in rows_of(scan) if (row["name"], row["seed"]) == (method, seed)]
    if any(is_current(row) for row in same):
        return
    if not store.exists():
        volume, what = volume_of(SCANS[scan], folder), SCANS[scan].scan
        if isinstance(what, Scan):
            simulate(volume, str(store), what)
        else:
            simulate_mri(volume, str(store), what)
    own, layout = str(folder / scan / f"{method}-{seed}"), Layout(num_workers)
    (run,) = compare(str(store), own, {method: config}, [seed], layout=layout, overwrite=True)
    row = {**asdict(run), "settings": settings_of(config), "commit": commit()}
    del row["result"]
    rows = [row for row in rows_of(scan) if row not in same] + [row]  # others may have added theirs
    SCORES.mkdir(exist_ok=True)
    (SCORES / f"{scan}.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(scan, *table([run])[1], flush=True)


def volume_of(scanned: Scanned, folder: Path) -> str:
    if scanned.binning == 1:
        return str(scanned.volume)
    path = folder / f"{scanned.volume.stem}-binned-{scanned.binning}.npy"
    np.save(path, binned(scanned.volume, scanned.binning))
    return str(path)


def draw(scan: str, methods: list[str], folder: Path) -> None:
    """The picture of the first seed, of what ``folder`` has."""
    runs = [
        replace(run, result=str(folder / scan / f"{run.name}-0" / f"{run.name}-seed0.zarr"))
        for run in current(scan)
        if run.name in methods and run.seed == 0
    ]
    runs = sorted((run for run in runs if Path(run.result).exists()), key=lambda run: methods.index(run.name))
    if runs:
        ComparisonFiles(folder / scan, str(folder / f"{scan}.zarr")).write_picture(runs, None)


def write_table() -> None:
    parts = [
        "# Every method",
        "`python benchmarks/bench_methods.py --folder FOLDER`\n\n"
        f"Slices {SLICES} of an abdominal CT if nothing else is said, {platform.machine()}, {os.cpu_count()} "
        f"cores, torch {torch.__version__}. PSNR and SSIM on the window of 2000 HU, of the head on "
        "all its values; in MRI its phase is random and smooth, its magnitude scored. ± is the standard "
        "deviation over seeds (noise of the trajectory, draws of the adaptation), which stand below. "
        "Planes: means over the slices that hold more than air, of the seeds measured since these were "
        "told apart. Seconds of one worker on one core beside another benchmark, of the fastest seed; MiB of "
        "its process, in which libraries that methods before it loaded count, too.",
    ]
    order = ["zero-filled", *METHODS.split(","), *OTHERS.split(",")]
    for scan, scanned in SCANS.items():
        runs = sorted(current(scan), key=lambda run: (order.index(run.name), run.seed))
        if runs:
            parts += [f"## {scanned.title}", markdown(table(runs)), f"Measured at {commits(scan)}."]
    TABLE.write_text("\n\n".join(parts) + "\n")


def current(scan: str) -> list[Run]:
    """What was measured with today's settings, the results' paths left out."""
    rows = [row for row in rows_of(scan) if is_current(row)]
    return [
        Run(**{key: row[key] for key in row if key not in ("settings", "commit")}, result="") for row in rows
    ]


def commits(scan: str) -> str:
    """Which methods and seeds were measured at which."""
    measured: dict[str, dict[str, list[str]]] = {}
    for row in filter(is_current, rows_of(scan)):
        measured.setdefault(row["commit"], {}).setdefault(row["name"], []).append(str(row["seed"]))
    return "; ".join(
        f"{commit}: " + ", ".join(f"{name} {'+'.join(seeds)}" for name, seeds in names.items())
        for commit, names in measured.items()
    )


def commit() -> str:
    """Of the code that is being measured; with a + where the package differs from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(HERE.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return git("describe", "--always") + ("+" if git("status", "--porcelain", "ddip_ray") else "")


def rows_of(scan: str) -> Rows:
    path = SCORES / f"{scan}.json"
    rows: Rows = json.loads(path.read_text()) if path.exists() else []
    return rows


def is_current(row: dict[str, Any]) -> bool:
    """Whether it was made with today's settings; those that it does not know of were as by default."""
    today, default = settings_of(config_of(row["name"])), RunConfig().model_dump(mode="json")
    return all(
        settings.get(key, default[section].get(key)) == today[section].get(key)
        for section, settings in row["settings"].items()
        for key in {*settings, *today[section]}
    )


def settings_of(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", include=set(config.row.sections))


def config_of(name: str) -> RunConfig:
    return load_config(None, VARIANTS.get(name, {"method": name}))


if __name__ == "__main__":
    main()
