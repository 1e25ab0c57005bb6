"""Every method on one real volume: PSNR, SSIM and time, at several view counts and noise levels.

    python tests/benchmarks/bench_quality.py

writes results/quality.md. Volumes are of ../shared/data: an abdominal CT, and the MR image of a head
as the object of a CT scan, on which no setting was chosen.
Settings of a method can be overridden: --set 'tv={"lam": 1e-4}'.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from ddip_ray.engine.config import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.tasks.evaluate import evaluate
from ddip_ray.tasks.noise import parse_noise
from ddip_ray.tasks.simulate import Scan, simulate

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Volume:
    """A file, and what becomes 0 to 1; None: its least and greatest value."""

    path: Path
    window: tuple[float, float] | None


VOLUMES = {
    "ct": Volume(DATA / "ct_abdomen_totalseg" / "ct_abdomen_128.npz", (-1000.0, 1000.0)),
    "mri": Volume(DATA / "mri_t1_datalad" / "mri_t1_128.npz", None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--volume", choices=VOLUMES, default="ct")
    parser.add_argument("--methods", default="fbp,cg,tv,dds,d3ip")
    parser.add_argument("--views", default="30,60")
    parser.add_argument("--noise", default="none,gaussian:0.01")
    parser.add_argument("--slices", default="40:72", help="of the volume's 112; SSIM needs more than 10")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION=JSON")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "quality.md")
    args = parser.parse_args()
    overrides = {key: json.loads(value) for key, value in (item.split("=", 1) for item in args.set)}
    volume = VOLUMES[args.volume]
    rows = ["| views | noise | method | PSNR (dB) | SSIM | coronal | sagittal | seconds | NFE + adapt |"]
    rows.append("|" + "---|" * 9)
    with tempfile.TemporaryDirectory() as folder:
        for views in map(int, args.views.split(",")):
            for noise in args.noise.split(","):
                store = f"{folder}/{views}-{noise.replace(':', '-')}.zarr"
                scan = Scan(views, noise=parse_noise(noise), window=volume.window, slices=args.slices)
                simulate(str(volume.path), store, scan)
                for method in args.methods.split(","):
                    config = load_config(None, {"method": method, "seed": args.seed, **overrides})
                    output = store.replace(".zarr", f"-{method}.zarr")
                    run = reconstruct(store, output, config, num_workers=args.workers)
                    s = evaluate(output)
                    planes = [f"{s.planes[name].psnr:.2f}" for name in ("coronal", "sagittal")]
                    cells = [views, noise, method, f"{s.psnr:.2f}", f"{s.ssim:.4f}", *planes]
                    cells += [f"{run.seconds:.0f}", f"{run.nfe} + {run.adapt_nfe}"]
                    rows.append("| " + " | ".join(map(str, cells)) + " |")
                    print(rows[-1], flush=True)
    text = "\n".join(rows)
    command = shlex.join(["python", "tests/benchmarks/bench_quality.py", *sys.argv[1:]])
    header = (
        f"# Quality on {volume.path.stem}, slices {args.slices}\n\n`{command}`\n\n"
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}. PSNR and SSIM on a data "
        f"range of 1, which is {volume.window or 'the least to the greatest value'} of the image.\n\n"
    )
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(header + text + "\n")


if __name__ == "__main__":
    main()
