"""What `--warm-start` gains: quality against adapt steps, with and without it.

    python benchmarks/bench_warm_start.py

writes results/warm_start.md and .png. Five volumes of 12 slices are cut from one part of the abdominal CT of
../shared/data, 64 x 64, 30 views, and reconstructed by D3IP in a cohort that starts warm; two more, from
another part of it, are then reconstructed with few and many adapt steps from no adapter, and from the last
one of the cohort's library. With no adapt step at all that is DDS, by itself or with that adapter.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import yaml
from abdomen import CT, binned
from cohort_command import call, scan_ct, status
from heading import heading
from measured import row

from ddip_ray.tasks.cohort.adapter_library import AdapterLibrary

RESULTS = Path(__file__).parent / "results"
TEACHERS, LATER = (0, 12, 24, 36, 48), (68, 88)  # first slices
THICKNESS, BINNING = 12, 2
ADAPT_STEPS = (0, 1, 2, 4, 8)  # a timestep, of 12 that adapt; 8 is the default
TAG = "abdomen"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keeps what is made; to go on after a break")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).absolute()
        learned, curve = folder / "learned", folder / "curve"
        teachers = [scanned(folder, start) for start in TEACHERS]
        volumes = [{"store": str(store), "tag": TAG} for store in teachers]
        run(folder, learned, volumes, args.workers, "--warm-start")
        adapter = AdapterLibrary(learned / "adapters").latest(TAG)
        run(folder, curve, list(points(folder, str(adapter))), args.workers)
        found = status(curve)
    write(found)


def scanned(folder: Path, start: int) -> Path:
    store = folder / f"z{start}.zarr"
    if not store.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scan_ct(binned(CT, BINNING)[start : start + THICKNESS], store)
    return store


def points(folder: Path, adapter: str) -> Any:
    """A volume of a cohort for each point of the curves."""
    for start in LATER:
        store = str(scanned(folder, start))
        for steps in ADAPT_STEPS:
            d3ip = {"method": "d3ip", "adaptation": {"policy": "fixed", "num_adapt_steps": steps}}
            cold: dict[str, Any] = d3ip if steps else {"method": "dds"}
            yield {"store": store, "name": name(start, steps, False), "config": cold}
            yield {"store": store, "name": name(start, steps, True), "config": d3ip | {"adapter": adapter}}


def name(start: int, steps: int, warm: bool) -> str:
    return f"z{start}-{steps}-{'warm' if warm else 'cold'}"


def where(start: int) -> str:
    return f"Slices {start} to {start + THICKNESS - 1}"


def run(folder: Path, out: Path, volumes: list[dict[str, Any]], workers: int, *flags: str) -> None:
    cohort = folder / f"{out.name}.yaml"
    config = {"method": "d3ip", "adaptation": {"policy": "fixed"}}
    cohort.write_text(yaml.safe_dump({"config": config, "volumes": volumes}))
    code = call(["cohort", "run", str(cohort), "-o", str(out), "--workers", str(workers), *flags])
    if code != 0:
        raise RuntimeError(f"the cohort ended with {code}")


def write(found: dict[str, dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    lines = heading(
        "Adapt steps with and without a warm start",
        f"D3IP, {THICKNESS} slices of 64², 30 views, the adapter from {len(TEACHERS)} other parts of the "
        "same abdomen. PSNR in dB, SSIM.",
    )
    columns = ["adapt steps a timestep", "from no adapter", "", "from the library's", ""]
    for start in LATER:
        lines += [
            f"Slices {start} to {start + THICKNESS - 1}:",
            "",
            row(columns),
            "|" + "---|" * len(columns),
        ]
        for steps in ADAPT_STEPS:
            both = [found[name(start, steps, warm)] for warm in (False, True)]
            lines.append(
                row([steps, *(cell for e in both for cell in (f"{e['psnr']:.2f}", f"{e['ssim']:.4f}"))])
            )
        lines.append("")
    (RESULTS / "warm_start.md").write_text("\n".join(lines))
    figure, axes = pyplot.subplots(1, len(LATER), figsize=(9, 3.5), layout="constrained")
    for axis, start in zip(axes, LATER, strict=True):
        for warm, label in ((False, "from no adapter"), (True, "from the library's")):
            psnr = [found[name(start, steps, warm)]["psnr"] for steps in ADAPT_STEPS]
            axis.plot(range(len(ADAPT_STEPS)), psnr, "o-", label=label)
        axis.set_xticks(range(len(ADAPT_STEPS)), [str(steps) for steps in ADAPT_STEPS])
        axis.set(title=where(start), xlabel="adapt steps a timestep", ylabel="PSNR (dB)")
    axes[0].legend()
    figure.savefig(RESULTS / "warm_start.png", dpi=100)


if __name__ == "__main__":
    main()
