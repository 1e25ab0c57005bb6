"""Digests of small reconstructions by every method, to show that a change of the code changes no bit.

    python benchmarks/golden_volumes.py before             # at the commit before
    python benchmarks/golden_volumes.py after --same-as before    # at the commit after, on the same machine

A noise-free and a noisy CT scan and an MRI scan of 6 slices are simulated and reconstructed with few steps,
by one process and by two Ray workers. Digests are of one machine: another CPU rounds differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
import zarr

SHAPE = (6, 20, 24)
CLASSICAL = ("tv", "cg")
ADAPTING = ("d3ip", "d3ip-meta", "d3ip-mbir", "ddip", "scd")
SAMPLING = ("dds", "ddnm", "diffpir", "dps", "diffusionmbir", "score-sde")
METHODS = {
    "clean": ("fbp", *CLASSICAL, *ADAPTING, *SAMPLING),
    "noisy": ("d3ip", "d3ip-mbir", "dds", "ddnm", "diffpir", "diffusionmbir", "tv"),
    "mri": ("zero-filled", *CLASSICAL, "d3ip", "dds", "diffusionmbir"),
}
# The keys are those of the oldest commit that is compared.
FEW_STEPS = {
    "sampler": {"num_steps": 8},
    "adaptation": {"num_adapt_steps": 2, "num_adapt_slices": 3},
    "dps": {"num_steps": 6},
    "predictor_corrector": {"num_steps": 5},
    "tv": {"iterations": 20},
}


def command(*words: str | Path) -> None:
    """Run ``ddip-ray`` with this interpreter; its own words appear if it fails."""
    run = [sys.executable, "-c", "from ddip_ray_cli.main import run; run()", *map(str, words)]
    done = subprocess.run(run, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}:\n{done.stdout}{done.stderr}")


def simulate(folder: Path) -> None:
    """Write the three acquisitions into ``folder``."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    body = (0.4 * z**2 + 1.4 * y**2 + 1.6 * x**2 < 1).astype(np.float32)
    hole = (y + 0.2) ** 2 + (x - 0.2) ** 2 < 0.06
    np.save(folder / "image.npy", np.where(hole, 0.25 * body, 0.75 * body).astype(np.float32))
    image = folder / "image.npy"
    window = ("--window", "0", "1")
    command("simulate", image, "-o", folder / "clean.zarr", "--views", "16", *window)
    noise = ("--noise", "gaussian:0.01")
    command("simulate", image, "-o", folder / "noisy.zarr", "--views", "16", *window, *noise)
    coils = ("--acceleration", "2", "--pattern", "uniform1d", "--coils", "3", "--calibration", "6")
    command("simulate-mri", image, "-o", folder / "mri.zarr", *coils, *noise)


def digest(result: Path) -> str:
    """SHA-256 of the result's full-resolution voxels."""
    voxels = np.asarray(zarr.open_group(result, mode="r")["0"])
    return hashlib.sha256(voxels.tobytes()).hexdigest()


def main() -> None:
    """Reconstruct, write ``digests.json``, and compare with an earlier folder's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--same-as", type=Path, help="folder of the commit before")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--scans", nargs="+", default=list(METHODS), choices=list(METHODS), help="only these")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "few.yaml").write_text(yaml.safe_dump(FEW_STEPS))
    simulate(folder)
    found: dict[str, str] = {}
    for scan in given.scans:
        for method in METHODS[scan]:
            if given.methods and method not in given.methods:
                continue
            for workers in given.workers:
                name = f"{scan}-{method}-{workers}"
                layout = ("--workers", str(workers), *(("--executor", "local") if workers == 1 else ()))
                words = ("--method", method, "--config", folder / "few.yaml", *layout, "--overwrite")
                output = folder / f"{name}.zarr"
                command("reconstruct", folder / f"{scan}.zarr", "-o", output, *words)
                found[name] = digest(output)
                print(name, found[name][:16], flush=True)
                (folder / "digests.json").write_text(json.dumps(found, indent=1) + "\n")
    if given.same_as is not None:
        before = json.loads((given.same_as / "digests.json").read_text())
        different = [name for name in found if before.get(name) != found[name]]
        if different:
            raise SystemExit(f"{len(different)} of {len(found)} differ: {', '.join(different)}")
        print(f"all {len(found)} volumes are the same, bit for bit")


if __name__ == "__main__":
    main()
