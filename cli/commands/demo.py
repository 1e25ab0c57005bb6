"""`ddip-ray demo`: simulate a scan of a real MR volume and reconstruct it, without a download."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..options import AsJson
from ..output import format_table, print_json, progress
from .evaluate import check_picture, number
from .reconstruct import in_words, watcher

VIEWS = 30
ACCELERATION, MRI_SLICES = 4.0, "6:18"  # fewer slices, because a complex one takes twice the work
MRI_NOISE = "gaussian:0.02"
WORKERS = 2
METHOD = "d3ip"
FULL_STRENGTH = {"policy": "fixed"}  # the default compares several strengths, which takes longer


class Task(StrEnum):
    """The kind of scan that is simulated."""

    CT = "ct"
    MRI = "mri"


def demo(
    task: Annotated[
        Task,
        typer.Argument(
            metavar="SCAN",
            help="Scan to simulate: `ct`, 30 parallel views; `mri`, accelerated 4-fold, 8 coils.",
        ),
    ] = Task.CT,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder for scan, results and picture. Default: demo for ct, demo-mri for mri.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier demo.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a sparse scan, reconstruct it with D3IP, draw it.

    The image is a real MR volume that comes with the package nibabel. D3IP runs on two workers and is
    compared with filtered back-projection (CT) or zero filling (MRI).
    """
    folder = output or Path("demo" if task is Task.CT else "demo-mri")
    picture = folder / "demo.png"
    from ddip_ray.io import paths

    paths.make_folder(folder)
    check_picture(picture, overwrite)
    import nibabel

    from ddip_ray.config.load import load_config
    from ddip_ray.engine.run import reconstruct
    from ddip_ray.tasks.judge.evaluate import evaluate
    from ddip_ray.tasks.judge.montage import montage

    image = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    store = str(folder / "scan.zarr")
    scanned = scan(task, str(image), store, overwrite)
    scores = {}
    for method, workers in (("fbp" if task is Task.CT else "zero-filled", 1), (METHOD, WORKERS)):
        target = str(folder / f"{method}.zarr")
        with progress(method) as report:
            result = reconstruct(
                store,
                target,
                load_config(None, {"method": method, "adaptation": FULL_STRENGTH}),
                num_workers=workers,
                overwrite=overwrite,
                on_event=watcher(report),
            )
        scores[method] = evaluate(target)
    picture.write_bytes(montage(target))
    if as_json:
        print_json(
            {"picture": str(picture), **{m: {"psnr": s.psnr, "ssim": s.ssim} for m, s in scores.items()}}
        )
        return
    rows = [["", "PSNR (dB)", "SSIM"]]
    rows += [[method.upper(), number(s.psnr, 2), number(s.ssim, 4)] for method, s in scores.items()]
    print(in_words(result))
    print(f"\nScores of the whole volume ({scanned} of {image.name})\n\n{format_table(rows, right=(1, 2))}")
    print(f"\npicture {picture.absolute()}")


def scan(task: Task, image: str, store: str, overwrite: bool) -> str:
    """Simulate the scan of ``image`` into ``store``; how it was scanned, in words."""
    from ddip_ray.tasks.acquire.kspace_scan import KSpaceScan
    from ddip_ray.tasks.acquire.measurement_noise import parse_noise
    from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate
    from ddip_ray.tasks.acquire.simulate_mri import simulate_mri

    with progress("simulate") as report:
        if task is Task.CT:
            simulate(image, store, Scan(num_views=VIEWS), overwrite=overwrite, report=report)
            return f"{VIEWS} views"
        noise = parse_noise(MRI_NOISE)  # without noise, eight coils would determine the image almost exactly
        lines = KSpaceScan("uniform1d", ACCELERATION, slices=MRI_SLICES, noise=noise)
        simulate_mri(image, store, lines, overwrite=overwrite, report=report)
        return f"every {ACCELERATION:.0f}th line and the centre of k-space, {lines.num_coils} coils"
