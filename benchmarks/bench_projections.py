"""Real projections from a third of their views, scored against all of them.

    python benchmarks/bench_projections.py

writes results/projections.md and, with --pictures FOLDER, a PNG a data set. Two scores: against FBP
(Hann window) of all views, inside the inscribed circle, and the misfit of the views that were left
out, ‖A x − y‖/‖y‖ over them, which asks no other reconstruction for its opinion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bench_methods import config_of
from measured import DATA, decided, draw, row, write_table

from ddip_ray.config.load import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.problems.parallel_ct import build_operator
from ddip_ray.tasks.acquire.import_ct import ImportSettings, ProjectionChoice, import_projections
from ddip_ray.tasks.judge.evaluate import evaluate
from ddip_ray.tasks.judge.volumes import read_result

EVERY = 3


@dataclass(frozen=True)
class Scan:
    """A measured scan: its file, which array in it, and the rows used."""

    path: Path
    key: str | None
    rows: tuple[int, int]


SCANS = {
    "savu": Scan(DATA / "proj_savu_parallel" / "projections_parallel.npz", "line_integrals", (86, 98)),
    "tooth": Scan(DATA / "proj_tooth_2rows" / "tooth.h5", None, (0, 2)),
}


def main() -> None:
    write_table(
        Path(__file__).name,
        __doc__,
        title="Real projections from a third of their views",
        note="Reference: FBP with a Hann window of all views.",
        columns=[
            "scan",
            "views",
            "method",
            "PSNR (dB)",
            "SSIM",
            "misfit of the unseen views",
            "seconds",
            "decided",
        ],
        scans=SCANS,
        methods="fbp,cg,tv,dds,d3ip",
        output="projections.md",
        compare=compare,
    )


def compare(name: str, methods: list[str], folder: str, pictures: Path | None) -> list[str]:
    scan = SCANS[name]
    full = read(scan, f"{folder}/{name}-full.zarr", 1, ImportSettings())
    # The same units and axis for both, so that they can be compared.
    same = ImportSettings(
        rotation_center=full.metadata.acquisition.rotation_center,
        scale=full.metadata.intensity.measurement_scale,
    )
    sparse = read(scan, f"{folder}/{name}-third.zarr", EVERY, same)
    reference = f"{folder}/{name}-reference.zarr"
    reconstruct(full.path, reference, load_config(None, {"method": "fbp", "fbp": {"filter_name": "hann"}}))
    shown = {"FBP of all views": read_volume(reference)}
    rows = []
    for method in methods:
        output = f"{folder}/{name}-{method}.zarr"
        run = reconstruct(sparse.path, output, config_of(method), executor="local")
        shown[method] = read_volume(output)
        s = evaluate(output, reference, circle=True)
        ssim = "" if s.ssim is None else f"{s.ssim:.4f}"
        cells = [name, len(sparse.metadata.acquisition.angles_deg), method, f"{s.psnr:.2f}", ssim]
        cells += [f"{unseen_misfit(full, shown[method]):.4f}", f"{run.seconds:.0f}", decided(run.notes)]
        rows.append(row(cells))
        print(rows[-1], flush=True)
    draw(pictures, name, shown)
    return rows


def read(scan: Scan, store: str, every: int, settings: ImportSettings) -> Acquisition:
    choice = ProjectionChoice(key=scan.key, rows=scan.rows, every_nth_view=every)
    import_projections(str(scan.path), store, choice, settings)
    return open_acquisition(store)


def read_volume(path: str) -> np.ndarray:
    result = open_result(path)
    return read_result(result, result.intensity)


def unseen_misfit(full: Acquisition, volume: np.ndarray) -> float:
    """‖A x − y‖/‖y‖ over the views that the reconstruction has not seen."""
    unseen = np.arange(len(full.metadata.acquisition.angles_deg)) % EVERY != 0
    y = full.measurements(0, full.num_slices)[:, unseen] / full.metadata.intensity.measurement_scale
    predicted = build_operator(full.metadata.acquisition).forward(torch.from_numpy(volume)).numpy()[:, unseen]
    return float(np.linalg.norm(predicted - y) / np.linalg.norm(y))


if __name__ == "__main__":
    main()
