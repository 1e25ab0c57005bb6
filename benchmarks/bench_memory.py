"""How many arrays of a slab each method holds at its peak: what `engine.planning.memory` counts with.

    python benchmarks/bench_memory.py

writes results/memory.md. Every tensor that lives is counted, on the CPU, in short runs on two slabs with few
and with many views; what grows with the slab is split into images and measurements. Scratch memory of
libraries is not seen.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from heading import heading

from ddip_ray.config.load import load_config
from ddip_ray.config.methods import METHODS as ROWS
from ddip_ray.config.methods import overlaid
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.planning.memory import VALIDATION_IMAGES, VALIDATION_MEASUREMENTS, adapter_bytes
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.prior.load import save_prior
from ddip_ray.prior.memory import LiveBytes
from ddip_ray.prior.network import NetworkConfig, build_network
from ddip_ray.prior.training.train import SCHEDULE
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.build import build_method
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate

RESULTS = Path(__file__).parent / "results" / "memory.md"
METHODS = (
    "fbp,cg,tv,dds,ddnm,diffpir,diffusionmbir,score-sde,dps,d3ip,d3ip-mbir,d3ip-mbir-auto,d3ip-meta,ddip,scd"
)
AUTO = "-auto"
SIZE, SLABS, VIEWS = 32, (24, 48), (8, 32)
PER_SLICE, SHORT = ("ddip", "scd"), (12, 24)  # which take long
RUN: dict[str, Any] = {
    "sampler": {"num_steps": 3, "final_cg_iterations": 5},
    "tv": {"iterations": 3},
    "dps": {"num_steps": 3},
    "predictor_corrector": {"num_steps": 3},
    "adaptation": {"adapt_start_t": 999, "num_adapt_steps": 1, "policy": "fixed"},
    "meta": {"inner_steps": 1, "refine_steps": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    lines = [
        *heading(
            "Arrays of a slab at the peak",
            f"slabs of {SLABS[0]} and {SLABS[1]} slices ({SHORT[0]} and {SHORT[1]} of "
            f"{' and '.join(PER_SLICE)}) of {SIZE}², {VIEWS[0]} and {VIEWS[1]} views. The "
            "last columns are what `footprint` counts with.",
        ),
        "| method | images | measurements | footprint: images | measurements |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        prior = Path(folder) / "tiny"
        config = NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8)
        save_prior(prior, build_network(config), SCHEDULE, {"image_range": [-1.0, 1.0]})
        for method in args.methods.split(","):
            images, measurements = arrays(method, Path(folder), str(prior))
            counted = ROWS[method].held_images, ROWS[method].held_measurements
            if method.endswith(AUTO):
                counted = counted[0] + 4 * VALIDATION_IMAGES, counted[1] + VALIDATION_MEASUREMENTS
            if (adapters := ROWS[method].adapter_arrays_per_slice) > 0:
                own = adapters * adapter_bytes(configured(method, str(prior))) / (4 * SIZE**2)
                counted = counted[0] + round(own), counted[1]
            lines.append(f"| {method} | {images:.1f} | {measurements:.1f} | {counted[0]} | {counted[1]} |")
            print(lines[-1], flush=True)
    args.output.write_text("\n".join(lines) + "\n")


def arrays(method: str, folder: Path, prior: str) -> tuple[float, float]:
    """Images and measurements a slice: growth = images * pixels + measurements * samples, for two scans."""
    growth, samples = [], []
    for views in VIEWS:
        peaks, slabs = [], SHORT if method in PER_SLICE else SLABS
        for slices in slabs:
            store = folder / f"{slices}-{views}.zarr"
            if not store.exists():
                np.save(folder / "image.npy", np.random.default_rng(0).random((slices, SIZE, SIZE), "f4"))
                simulate(str(folder / "image.npy"), str(store), Scan(num_views=views, window=(0.0, 1.0)))
            peaks.append(peak(method, store, prior))
        growth.append((peaks[1] - peaks[0]) / (slabs[1] - slabs[0]) / 4)
        samples.append(np.prod(open_acquisition(str(store)).metadata.acquisition.measurement_shape))
    measurements = (growth[1] - growth[0]) / (samples[1] - samples[0])
    return (growth[0] - measurements * samples[0]) / SIZE**2, float(measurements)


def peak(method: str, store: Path, prior: str) -> int:
    acquisition = open_acquisition(str(store))
    with LiveBytes() as live:
        problem = load_problem(acquisition, Slab(0, acquisition.num_slices), "cpu", None)
        running = build_method(configured(method, prior), problem, Alone())
        for i in range(running.num_steps):
            if running.step(i).last:
                break
        running.result()
    return live.peak


def configured(method: str, prior: str) -> RunConfig:
    settings = overlaid(RUN, {"method": method.removesuffix(AUTO), "prior": prior})
    if method.endswith(AUTO):  # with a shadow of every slice at each of four strengths
        settings = overlaid(settings, {"adaptation": {"policy": "auto"}})
    if method not in PER_SLICE:  # as of a large volume, which has one twin a slice
        settings = overlaid(settings, {"adaptation": {"target_copies": 1}})
    return load_config(None, settings)


if __name__ == "__main__":
    main()
