"""`ddip-ray import FILE`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ..options import AsJson, Overwrite
from .options import Key, NewAcquisition, make_acquisition


def import_projections(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Projections with axes (view, row, column): Data Exchange HDF5, MRC or .npz.",
        ),
    ],
    output: NewAcquisition,
    angles: Annotated[
        str | None,
        typer.Option(
            metavar="ANGLES",
            help="View angles in degrees: START:STOP (evenly spaced, STOP excluded), START:STOP:STEP, a list "
            "0,1.5,3 or a text file. Default: the angles in the file.",
        ),
    ] = None,
    transmission: Annotated[
        bool | None,
        typer.Option(
            "--transmission/--line-integrals",
            help="Whether the values are transmitted intensities or line integrals of the attenuation. "
            "Default: as the file says.",
        ),
    ] = None,
    rotation_center: Annotated[
        float | None,
        typer.Option(
            metavar="COLUMN",
            help="Detector column that the rotation axis projects to, counted from 0. Default: estimated "
            "from the data.",
        ),
    ] = None,
    every_nth_view: Annotated[
        int, typer.Option(metavar="N", help="Use every N-th view only, to simulate a sparser scan.")
    ] = 1,
    rows: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="START STOP", help="Detector rows to use, counted from 0, STOP excluded. Default: all."
        ),
    ] = None,
    air_rows: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="START STOP",
            help="Detector rows that see only air, STOP excluded; in every view their median line integral "
            "is shifted to 0. Default: none.",
        ),
    ] = None,
    pixel_mm: Annotated[
        float | None, typer.Option(metavar="MM", help="Detector pixel size in mm. Default: the file's.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Side of the square image in pixels. Default: the number of detector columns."
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="1/MM",
            help="Attenuation in 1/mm that becomes 1. Default: estimated from a coarse filtered "
            "back-projection.",
        ),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Replace pixels that are NaN or infinite by their neighbours.")
    ] = False,
    key: Key = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import measured parallel-beam CT projections."""
    from ddip_ray.tasks.acquire.import_ct import ImportSettings, ProjectionChoice
    from ddip_ray.tasks.acquire.import_ct import import_projections as run

    choice = ProjectionChoice(angles, transmission, every_nth_view, rows, air_rows, repair, pixel_mm, key)
    settings = ImportSettings(rotation_center, scale, image_size)
    make_acquisition(partial(run, file, output, choice, settings, overwrite=overwrite), output, as_json)
