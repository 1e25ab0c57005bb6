"""Every method of the papers on a real CT volume, from few views and from a limited angle.

    python tests/benchmarks/bench_methods.py --folder FOLDER

writes results/methods.md; results, tables and a picture a scan stay in FOLDER, and what is there is not
made again. The volume is an abdominal CT of ../shared/data, all settings are the defaults.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ddip_ray.engine.config import load_config
from ddip_ray.solvers.settings import RunConfig
from ddip_ray.tasks.compare import Layout, Run, compare
from ddip_ray.tasks.comparison_files import ComparisonFiles
from ddip_ray.tasks.comparison_table import markdown, table
from ddip_ray.tasks.simulate import Scan, simulate

HERE = Path(__file__).parent
VOLUME = HERE.parents[2] / "shared" / "data" / "ct_abdomen_totalseg" / "ct_abdomen_128.npz"
WINDOW = (-1000.0, 1000.0)
SCANS = {
    "8": Scan(8, window=WINDOW),
    "30": Scan(30, window=WINDOW),
    "60": Scan(60, window=WINDOW),
    "60-over-120": Scan(60, angular_range_deg=120.0, window=WINDOW),
}
# Not a method's default: DiffusionMBIR to convergence at each timestep; held-out views that decide.
VARIANTS: dict[str, dict[str, Any]] = {
    "diffusionmbir-slow": {"method": "diffusionmbir", "mbir": {"cold": True, "sweeps": 20}},
    "d3ip-auto": {"method": "d3ip", "adaptation": {"policy": "auto"}},
}
METHODS = "fbp,cg,tv,dps,ddnm,diffpir,dds,diffusionmbir,scd,d3ip,d3ip-mbir,d3ip-meta,d3ip-auto"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--scans", default=",".join(SCANS))
    parser.add_argument("--methods", default=METHODS, help="also diffusionmbir-slow and ddip")
    parser.add_argument("--slices", default="54:66", help="of the volume's 112; SSIM needs more than 10")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "methods.md")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    words = ["FOLDER" if word == str(args.folder) else word for word in sys.argv[1:]]
    command = shlex.join(["python", "tests/benchmarks/bench_methods.py", *words])
    parts = [
        "# Every method on an abdominal CT",
        f"`{command}`\n\nSlices {args.slices}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{args.workers} workers, torch {torch.__version__}. PSNR and SSIM on the window of 2000 HU.",
    ]
    for name in args.scans.split(","):
        runs = compare_on(name, args)
        parts += [f"## {name} views", markdown(table(runs))]
        args.output.write_text("\n\n".join(parts) + "\n")


def compare_on(name: str, args: argparse.Namespace) -> list[Run]:
    store = args.folder / f"{name}.zarr"
    if not store.exists():
        simulate(str(VOLUME), str(store), replace(SCANS[name], slices=args.slices))
    folder = args.folder / name
    files = ComparisonFiles(folder, str(store))
    configs = {method: config_of(method) for method in args.methods.split(",")}

    def report(runs: list[Run]) -> None:
        files.write_tables(runs)
        print(name, *table(runs[-1:])[1], flush=True)

    runs = compare(
        str(store), str(folder), configs, range(args.seeds), layout=Layout(args.workers), on_run=report
    )
    files.write_picture(runs, None)
    return runs


def config_of(name: str) -> RunConfig:
    return load_config(None, VARIANTS.get(name, {"method": name}))


if __name__ == "__main__":
    main()
