"""`ddip-ray demo`: the main job on real anatomy, nothing to download."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .evaluate import check_picture, number
from .options import AsJson
from .output import format_table, print_json, progress
from .reconstruct import in_words, watcher

VIEWS = 30
ACCELERATION, MRI_SLICES = 4.0, "6:18"  # complex images take twice the work a slice
MRI_NOISE = "gaussian:0.02"
WORKERS = 2
METHOD = "d3ip"
FULL_STRENGTH = {"policy": "fixed"}  # the default tries several, which takes longer


class Task(StrEnum):
    """What is simulated."""

    CT = "ct"
    MRI = "mri"


def demo(
    task: Annotated[Task, typer.Argument(help="30 parallel views, or 4-fold accelerated k-space.")] = Task.CT,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder for everything the demo makes. Default: demo, or demo-mri."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier demo made.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Scan a real MR volume sparsely, reconstruct it with D3IP on two workers, and draw a picture."""
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
    what = scan(task, str(image), store, overwrite)
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
    print(f"\n{what} of {image.name}, volume scores\n\n{format_table(rows, right=(1, 2))}")
    print(f"\npicture {picture.absolute()}")


def scan(task: Task, image: str, store: str, overwrite: bool) -> str:
    """Measure the image, and say what was measured."""
    from ddip_ray.tasks.acquire.kspace_scan import KSpaceScan
    from ddip_ray.tasks.acquire.measurement_noise import parse_noise
    from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate
    from ddip_ray.tasks.acquire.simulate_mri import simulate_mri

    with progress("simulate") as report:
        if task is Task.CT:
            simulate(image, store, Scan(num_views=VIEWS), overwrite=overwrite, report=report)
            return f"{VIEWS} views"
        noise = parse_noise(MRI_NOISE)  # without, eight coils know all there is to know
        lines = KSpaceScan("uniform1d", ACCELERATION, slices=MRI_SLICES, noise=noise)
        simulate_mri(image, store, lines, overwrite=overwrite, report=report)
        return f"every {ACCELERATION:.0f}th line and the centre of k-space, {lines.num_coils} coils,"
