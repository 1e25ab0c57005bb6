"""Real k-space from fewer of its samples, scored against all of them.

    python benchmarks/bench_mri.py

writes results/mri.md and, with --pictures FOLDER, a PNG a scan. The reference is the zero-filled image of
all samples with their own sensitivity maps. Magnitudes are compared; NRMSE is ‖x − reference‖/‖reference‖,
SSIM the mean over slices, whole and inside the object: the reference has noise around it, which the measure
takes for structure. All of them favour results that keep the noise of the samples they were made from: the
reference has it, too. The samples that were left out have noise of their own: by how much they are missed,
‖A x − y‖/‖y‖ of these alone, favours none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bench_methods import config_of
from measured import DATA, decided, draw, row, write_table
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, binary_opening

from ddip_ray.config.load import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.io.stores.schema import Pattern
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.tasks.acquire.import_mri import KSpaceChoice, import_mri
from ddip_ray.tasks.acquire.measured_kspace import Undersampling
from ddip_ray.tasks.judge.evaluate import evaluate
from ddip_ray.tasks.judge.scores import mean_ssim


@dataclass(frozen=True)
class Scan:
    """A file, which array in it, its axes, which lines are kept, and how many in full at the centre."""

    path: Path
    key: str
    axes: str
    accelerations: tuple[float, ...]
    pattern: Pattern
    calibration: int


BRAIN = DATA / "kspace_16ch_brain_pulseq" / "kspace_16ch.npz"
ULF = DATA / "kspace_ulf_3dgre_coronal" / "kspace_stack.npz"  # one coil
SCANS = {
    "brain": Scan(BRAIN, "kspace", "coil,ky,kx", (2, 3, 4), "uniform1d", 24),
    "ulf": Scan(ULF, "kspace", "z,ky,kx", (2, 4), "random1d", 16),
}
SCORES = ("unseen missed by", "NRMSE", "PSNR (dB)", "SSIM", "SSIM inside")


def main() -> None:
    write_table(
        Path(__file__).name,
        __doc__,
        title="Real k-space from fewer samples",
        note="Reference: the zero-filled image of all samples.",
        columns=["scan", "R", "samples", "method", *SCORES, "seconds", "decided"],
        scans=SCANS,
        methods="zero-filled,cg,tv,dds,d3ip",
        output="mri.md",
        compare=compare,
    )


def compare(name: str, methods: list[str], folder: str, pictures: Path | None) -> list[str]:
    scan = SCANS[name]
    full, reference = f"{folder}/{name}.zarr", f"{folder}/{name}-reference.zarr"
    choice = KSpaceChoice(scan.key, scan.axes)
    all_samples = import_mri(str(scan.path), full, choice)
    reconstruct(full, reference, load_config(None, {"method": "zero-filled"}), executor="local")
    same = KSpaceChoice(scan.key, scan.axes, scale=all_samples.metadata.intensity.scale)
    rows, truth = [], magnitude(reference)
    inside, unit = inside_object(truth), all_samples.metadata.intensity.scale
    for acceleration in scan.accelerations:
        store = f"{folder}/{name}-{acceleration:g}.zarr"
        fewer = Undersampling(acceleration, scan.pattern, scan.calibration)
        acquisition = import_mri(str(scan.path), store, same, fewer)
        share = float(acquisition.read("sampling_mask", 0, 1).mean())
        unseen = Unseen(all_samples, acquisition)
        shown = {"all samples": truth}
        for method in methods:
            output = f"{folder}/{name}-{acceleration:g}-{method}.zarr"
            run = reconstruct(store, output, config_of(method), executor="local")
            shown[method], s = magnitude(output), evaluate(output, reference)
            nrmse = float(np.linalg.norm(shown[method] - truth) / np.linalg.norm(truth))
            missed = unseen.missed_by(output)
            cells = [name, f"{acceleration:g}", f"{share:.2f}", method, f"{missed:.4f}"]
            cells += [f"{nrmse:.4f}", f"{s.psnr:.2f}"]
            images = shown[method] / unit, truth / unit
            cells += [f"{slice_ssim(*images, where):.4f}" for where in (np.ones_like(inside), inside)]
            cells += [f"{run.seconds:.0f}", decided(run.notes)]
            rows.append(row(cells))
            print(rows[-1], flush=True)
        brightest = np.percentile(truth, 99.9)
        drawn = {title: volume / brightest for title, volume in shown.items()}
        draw(pictures, f"{name}-{acceleration:g}", drawn)
    return rows


class Unseen:
    """The samples of ``full`` that ``fewer`` has not."""

    def __init__(self, full: Acquisition, fewer: Acquisition) -> None:
        count = full.num_slices
        self.problem, self.scale = load_problem(full, Slab(0, count)), full.metadata.intensity.scale
        taken, seen = (acquisition.read("sampling_mask", 0, count) for acquisition in (full, fewer))
        samples = torch.from_numpy(taken & ~seen)[:, None].expand_as(self.problem.y)
        self.y = torch.where(samples, self.problem.y, 0)

    def missed_by(self, path: str) -> float:
        """‖A x − y‖/‖y‖ of these samples."""
        result = open_result(path)
        x = torch.from_numpy(result.read(0, result.shape[0])) / self.scale
        predicted = self.problem.operator.forward(self.problem.without_phase(x))
        return float(torch.where(self.y == 0, 0, predicted - self.y).norm() / self.y.norm())


def inside_object(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(z, y, x): the pixels above a tenth of the brightest, without specks, with their holes."""
    bright = image > 0.1 * image.max()
    filled = [binary_fill_holes(binary_opening(slice_)) for slice_ in bright]
    return np.stack(filled)


def slice_ssim(image: NDArray[np.float32], truth: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """Mean over slices (z, y, x), on a data range of 1."""
    scores = [mean_ssim(a, b, 1.0, mask) for a, b, mask in zip(image, truth, where, strict=True)]
    return float(np.mean([score for score in scores if score is not None]))


def magnitude(path: str) -> NDArray[np.float32]:
    result = open_result(path)
    return np.abs(result.read(0, result.shape[0]))


if __name__ == "__main__":
    main()
