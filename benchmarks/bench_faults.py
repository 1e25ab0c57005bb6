"""What befalls the workers of a run, what its user is told, and how long until it is as far again.

    python benchmarks/bench_faults.py

writes results/faults.md: each fault of tests/engine/faults.py, once, in a reconstruction of 12 slices of an
abdominal CT (../shared/data) on two workers of a cluster of nodes with a core each; and undisturbed runs on
other numbers of workers, and one that goes on on another number. Volumes are compared with that of one
worker in the process itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from abdomen import CT, binned
from heading import heading
from numpy.typing import NDArray

from ddip_ray.config.load import load_config
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.run import reconstruct
from ddip_ray.errors import Interrupted
from ddip_ray.io.stores.result import open_result
from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "engine"))
from faults import FAULTS, disturbed, simulated_cluster  # noqa: E402

RESULTS = HERE / "results" / "faults.md"
SLICES, BINNING = slice(54, 66), 2
RUN = {"sampler": {"num_steps": 6}, "adaptation": {"adapt_start_t": 999, "num_adapt_steps": 1}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--methods", default="dds,d3ip,tv")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    lines = [
        *heading(
            "Faults, and numbers of workers",
            "12 slices of 64², 30 views, few steps. Seconds are until the run was again where it was "
            "disturbed, or of a whole undisturbed run; differences are the largest, over the range of the "
            "volume.",
        ),
        "| fault or layout | method | seconds | difference | the user was told |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "vol.zarr"
        np.save(f"{folder}/ct.npy", binned(CT, BINNING)[SLICES])
        simulate(f"{folder}/ct.npy", str(store), Scan(30, window=(-1000.0, 1000.0)))
        for method in args.methods.split(","):
            for line in rows(store, method):
                print(line, flush=True)
                lines.append(line)
    args.output.write_text("\n".join(lines) + "\n")


def rows(store: Path, method: str) -> Iterator[str]:
    settings = load_config(None, {**RUN, "method": method})
    here = made(store, "here", settings, executor="local")

    def row(name: str, seconds: float, found: NDArray[np.float32], told: str = "") -> str:
        difference = np.abs(found - here).max() / np.ptp(here)
        return f"| {name} | {method} | {seconds:.1f} | {difference:.1e} | {told} |"

    with simulated_cluster(4):
        for number in (1, 2, 3, 4):
            started = time.monotonic()
            found = made(store, f"on{number}", settings, num_workers=number, executor="ray")
            yield row(f"{number} Ray workers", time.monotonic() - started, found)
        seen, started = list[int](), time.monotonic()

        def halfway() -> bool:
            seen.append(1)
            return len(seen) == 4

        try:
            made(store, "resumed", settings, num_workers=2, should_stop=halfway)
        except Interrupted as error:
            told = str(error).partition(",")[0]
        found = made(store, "resumed", settings, num_workers=3)
        yield row("2 workers, and 3 that go on", time.monotonic() - started, found, told)
    with simulated_cluster(2) as cluster:
        for name, fault in ((name, fault) for name, fault in FAULTS.items() if method in fault.methods):
            while len(cluster.nodes) < 2:
                cluster.add_node()
            run = disturbed(store, store.parent / f"{method}-{name}.zarr", settings, fault, cluster)
            yield row(name, run.seconds, run.volume, " / ".join(run.messages))


def made(store: Path, name: str, settings: RunConfig, **layout: object) -> NDArray[np.float32]:
    output = str(store.parent / f"{settings.method}-{name}.zarr")
    reconstruct(str(store), output, settings, **layout)  # type: ignore[arg-type]
    result = open_result(output)
    return result.read(0, result.shape[0])


if __name__ == "__main__":
    main()
