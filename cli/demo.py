"""`ddip-ray demo`: the main job on real anatomy, nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .evaluate import check_picture, number
from .options import AsJson
from .output import format_table, print_json, progress
from .reconstruct import in_words, watcher

VIEWS = 30
WORKERS = 2
METHOD = "d3ip"
FULL_STRENGTH = {"policy": "fixed"}  # the default tries several, which takes longer


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for everything the demo makes.")
    ] = Path("demo"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier demo made.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Scan a real MR volume from 30 angles, reconstruct it with D3IP on two workers, and draw a picture."""
    picture = output / "demo.png"
    output.mkdir(parents=True, exist_ok=True)
    check_picture(picture, overwrite)
    import nibabel

    from ddip_ray.engine.config import load_config
    from ddip_ray.engine.run import reconstruct
    from ddip_ray.tasks.evaluate import evaluate
    from ddip_ray.tasks.montage import montage
    from ddip_ray.tasks.simulate import Scan, simulate

    image = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    store = str(output / "scan.zarr")
    with progress("simulate") as report:
        simulate(str(image), store, Scan(num_views=VIEWS), overwrite=overwrite, report=report)
    scores = {}
    for method, workers in (("fbp", 1), (METHOD, WORKERS)):
        target = str(output / f"{method}.zarr")
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
    print(f"\n{VIEWS} views of {image.name}, volume scores\n\n{format_table(rows, right=(1, 2))}")
    print(f"\npicture {picture.absolute()}")
