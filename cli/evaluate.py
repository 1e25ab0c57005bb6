"""`ddip-ray evaluate RESULT`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddip_ray.errors import InputError

from .output import format_table, print_json

if TYPE_CHECKING:
    from ddip_ray.tasks.judge.evaluate import Evaluation


def evaluate(
    result: Annotated[str, typer.Argument(help="A result of `ddip-ray reconstruct`.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Another result, or an acquisition with a reference. Default: the result's own."),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture: reference, FBP, result, error.")] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Show this result in the picture instead of FBP; may be repeated."),
    ] = None,
    data_range: Annotated[
        float, typer.Option(help="Of PSNR and SSIM; 1 is the whole intensity window.")
    ] = 1.0,
    circle: Annotated[
        bool, typer.Option("--circle", help="Score the inscribed circle of slices only.")
    ] = False,
    per_slice: Annotated[bool, typer.Option("--per-slice", help="Also list every axial slice.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture if it exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every slice of every plane.")
    ] = False,
) -> None:
    """Score a result against its reference: PSNR, SSIM, residual."""
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
    """Before the work, not after it."""
    if png.suffix.lower() != ".png":
        raise InputError(f"--png {png}: expected a name ending in .png")
    if png.exists() and not overwrite:
        raise InputError(f"{png}: already exists", "Choose another name, or replace it with --overwrite")
    if not png.absolute().parent.is_dir():
        raise InputError(
            f"{png}: there is no folder {png.absolute().parent}", "Create it or correct the path"
        )


def in_words(scores: Evaluation) -> str:
    """Scores as a table under what was compared."""
    rows = [["", "PSNR (dB)", "SSIM", ""], ["volume", number(scores.psnr, 2), number(scores.ssim, 4), ""]]
    for plane, means in scores.planes.items():
        note = f"mean of {means.num_averaged} slices"
        rows.append([plane, number(means.psnr, 2), number(means.ssim, 4), note])
    original = f"{scores.data_range_original:.6g} {scores.unit}".rstrip()
    residual = (
        "" if scores.residual is None else f"\nresidual {scores.residual:.4f} of the measurements' norm"
    )
    return (
        f"{scores.result}\nagainst {scores.reference}\n"
        f"data range {scores.data_range:g} = {original}, {scores.region}\n\n"
        f"{format_table(rows, right=(1, 2))}\n{residual}"
    )


def slice_table(scores: Evaluation) -> str:
    """Every axial slice."""
    axial = scores.planes["axial"]
    rows = [["slice", "PSNR (dB)", "SSIM"]]
    pairs = zip(axial.slice_psnr, axial.slice_ssim, strict=True)
    rows += [[str(i), number(psnr, 2), number(ssim, 4)] for i, (psnr, ssim) in enumerate(pairs)]
    return format_table(rows, right=(0, 1, 2))


def number(value: float | None, digits: int) -> str:
    """A dash for what is not defined, as the SSIM of a volume thinner than its window."""
    return "-" if value is None else f"{value:.{digits}f}"
