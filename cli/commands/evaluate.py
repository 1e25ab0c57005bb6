"""`ddip-ray evaluate RESULT`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddip_ray.errors import InputError

from ..options import Circle
from ..output import format_table, print_json

if TYPE_CHECKING:
    from ddip_ray.tasks.judge.evaluate import Evaluation


def evaluate(
    result: Annotated[str, typer.Argument(metavar="RESULT", help="Result of `ddip-ray reconstruct`.")],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Result or acquisition whose image is the reference. Default: the reference of the "
            "acquisition that was reconstructed.",
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Picture to write: reference, FBP (MRI: zero-filled), result and error."
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RESULT",
            help="Result to show in the picture instead of FBP or zero-filled. Can be given several times.",
        ),
    ] = None,
    data_range: Annotated[
        float,
        typer.Option(
            metavar="VALUE", help="Data range of PSNR and SSIM; 1 is the whole intensity window of the image."
        ),
    ] = 1.0,
    circle: Circle = False,
    per_slice: Annotated[
        bool, typer.Option("--per-slice", help="Also print the scores of every axial slice.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture if it exists.")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print JSON instead of text, with the scores of every slice in all three planes."
        ),
    ] = False,
) -> None:
    """Score a result against a reference: PSNR, SSIM, residual."""
    if png is not None:
        check_picture(png, overwrite)
    from ddip_ray.tasks.judge.evaluate import evaluate as run

    scores = run(result, reference, data_range, circle)
    if png is not None:
        from ddip_ray.tasks.judge.montage import montage

        png.write_bytes(montage(result, reference, compare or (), circle))
    if as_json:
        print_json({**asdict(scores), "png": None if png is None else str(png)})
        return
    print(in_words(scores))
    if per_slice:
        print("\n" + slice_table(scores))
    if png is not None:
        print(f"picture {png}")


def check_picture(png: Path, overwrite: bool) -> None:
    """Refuse a picture that cannot be written, before any work is done."""
    if png.suffix.lower() != ".png":
        raise InputError(f"--png {png}: expected a name ending in .png")
    if png.exists() and not overwrite:
        raise InputError(f"{png}: already exists", "Choose another name, or replace it with --overwrite")
    if not png.absolute().parent.is_dir():
        raise InputError(
            f"{png}: there is no folder {png.absolute().parent}", "Create it or correct the path"
        )


def in_words(scores: Evaluation) -> str:
    """The scores as a table, below the names of the result and the reference."""
    rows = [["", "PSNR (dB)", "SSIM", ""], ["volume", number(scores.psnr, 2), number(scores.ssim, 4), ""]]
    for plane, means in scores.planes.items():
        note = f"mean of {means.num_averaged} slices"
        rows.append([plane, number(means.psnr, 2), number(means.ssim, 4), note])
    original = f"{scores.data_range_original:.6g} {scores.unit}".rstrip()
    residual = (
        ""
        if scores.residual is None
        else f"\nresidual {scores.residual:.4f}, relative to the norm of the measurements"
    )
    return (
        f"{scores.result}\nagainst {scores.reference}\n"
        f"data range {scores.data_range:g} = {original}, {scores.region}\n\n"
        f"{format_table(rows, right=(1, 2))}\n{residual}"
    )


def slice_table(scores: Evaluation) -> str:
    """A table with the scores of every axial slice."""
    axial = scores.planes["axial"]
    rows = [["slice", "PSNR (dB)", "SSIM"]]
    pairs = zip(axial.slice_psnr, axial.slice_ssim, strict=True)
    rows += [[str(i), number(psnr, 2), number(ssim, 4)] for i, (psnr, ssim) in enumerate(pairs)]
    return format_table(rows, right=(0, 1, 2))


def number(value: float | None, digits: int) -> str:
    """``value`` as text; a dash if it is undefined, like the SSIM of a volume thinner than its window."""
    return "-" if value is None else f"{value:.{digits}f}"
