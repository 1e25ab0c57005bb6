"""Options that several commands have."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def _name_cluster(address: str | None) -> str | None:
    """For the engine, which asks for it where Ray's own commands do."""
    if address is not None:
        os.environ["RAY_ADDRESS"] = address
    return address


Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|ray://…|auto",
        callback=_name_cluster,
        help="A running Ray cluster to use, instead of this machine. Default: RAY_ADDRESS, if it is set.",
    ),
]
ConfigFile = Annotated[str | None, typer.Option(help="A YAML file of settings; flags come on top.")]
Prior = Annotated[str | None, typer.Option(help="A shipped prior, a diffusers directory or a checkpoint.")]
NewAcquisition = Annotated[
    str, typer.Option("-o", "--output", help="The acquisition to write, e.g. vol.zarr.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
VoxelMm = Annotated[
    tuple[float, float, float] | None,
    typer.Option(metavar="Z Y X", help="Voxel size in mm, instead of the file's."),
]
VolumeIndex = Annotated[int, typer.Option(help="Which volume of a 4D image.")]
NpzKey = Annotated[str | None, typer.Option(help="Which array of an .npz.")]
