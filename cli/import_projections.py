"""`ddip-ray import FILE`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import AsJson, NewAcquisition, NpzKey, Overwrite
from .output import print_acquisition, progress


def import_projections(
    file: Annotated[
        str, typer.Argument(help="Data Exchange HDF5, MRC or .npz; projections are (view, row, column).")
    ],
    output: NewAcquisition,
    angles: Annotated[
        str | None,
        typer.Option(help="START:STOP, START:STOP:STEP, a list or a file, in degrees. Default: the file's."),
    ] = None,
    transmission: Annotated[
        bool | None,
        typer.Option("--transmission/--line-integrals", help="What the numbers are, if the file is silent."),
    ] = None,
    rotation_center: Annotated[
        float | None, typer.Option(help="Detector column of the rotation axis, from 0. Default: estimated.")
    ] = None,
    every_nth_view: Annotated[int, typer.Option(help="Use every n-th view.")] = 1,
    rows: Annotated[
        tuple[int, int] | None, typer.Option(metavar="START STOP", help="Detector rows to use.")
    ] = None,
    air_rows: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="START STOP", help="Detector rows with nothing but air; set to zero in each view."
        ),
    ] = None,
    pixel_mm: Annotated[
        float | None, typer.Option(help="Detector pixel in mm, instead of the file's.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side. Default: the detector's columns.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Attenuation that becomes 1. Default: estimated from a quick FBP.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Replace NaN pixels by their neighbours.")] = False,
    key: NpzKey = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import measured parallel-beam projections."""
    from ddip_ray.tasks.acquire.import_ct import ImportSettings, ProjectionChoice
    from ddip_ray.tasks.acquire.import_ct import import_projections as run

    choice = ProjectionChoice(angles, transmission, every_nth_view, rows, air_rows, repair, pixel_mm, key)
    settings = ImportSettings(rotation_center, scale, image_size)
    with progress("slices") as report:
        run(file, output, choice, settings, overwrite=overwrite, report=report)
    print_acquisition(output, as_json)
