"""Options of the commands that make an acquisition, and the steps that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from ..output import format_fields, print_json, progress

NewAcquisition = Annotated[
    str, typer.Option("-o", "--output", metavar="PATH", help="Acquisition to write, for example vol.zarr.")
]
Slices = Annotated[
    str | None,
    typer.Option(
        metavar="START:STOP", help="Axial slices to use, counted from 0, STOP excluded. Default: all slices."
    ),
]
VoxelMm = Annotated[
    tuple[float, float, float] | None,
    typer.Option(metavar="Z Y X", help="Voxel size in mm. Default: the size that the file states."),
]
VolumeIndex = Annotated[
    int, typer.Option(metavar="N", help="Index of the volume in a 4D image, counted from 0.")
]
Key = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the array to read. Default: the only suitable one."),
]
Pattern = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Sampling pattern. Lines: `uniform1d`, evenly spaced; `random1d`, drawn uniformly (called "
        '"uniform 1D" in the papers of DDS and D3IP); `gaussian1d`, denser at the centre. Points: '
        "`gaussian2d`, `poisson`. Trajectories: `radial`, `spiral`. `full` keeps every sample.",
    ),
]
Calibration = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Fully sampled lines at the centre of k-space; for points and trajectories, the side of a fully "
        "sampled square. Default: 8 % of the lines.",
    ),
]


def make_acquisition(make: Callable[..., object], path: str, as_json: bool) -> None:
    """Run ``make(report=…)``, which writes the acquisition ``path``, then say what was written."""
    with progress("slices") as report:
        make(report=report)
    from ddip_ray.io.stores.summary import summarize
    from ddip_ray.tasks.describe import in_words

    facts = summarize(path)
    if as_json:
        print_json(facts)
    else:
        print(format_fields(in_words(facts)))
        print(f"\nnext: ddip-ray reconstruct {path}")
