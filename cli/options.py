"""Options that several commands share, each described once."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated, get_args

import typer

from ddip_ray.config.methods import METHOD_NAMES
from ddip_ray.config.names import PresetName

# The names are the library's; typer reads the choices of an option from an enumeration.
MethodChoice = StrEnum("MethodChoice", {name.replace("-", "_"): name for name in METHOD_NAMES})  # type: ignore[misc]
PresetChoice = StrEnum("PresetChoice", {name: name for name in get_args(PresetName)})  # type: ignore[misc]


class AdaptChoice(StrEnum):
    """Who decides how strongly the prior is adapted."""

    fixed = "fixed"
    auto = "auto"


def _set_ray_address(address: str | None) -> str | None:
    """Tell the engine, which reads the address where Ray's own commands do."""
    if address is not None:
        os.environ["RAY_ADDRESS"] = address
    return address


Method = Annotated[
    MethodChoice | None,
    typer.Option(
        metavar="NAME", help=f"Reconstruction method, one of {', '.join(METHOD_NAMES)}. Default: d3ip."
    ),
]
Preset = Annotated[
    PresetChoice | None,
    typer.Option(
        help="Settings to start from: `default`, the ones that we found best; `paper`, those of the method's "
        "paper. Default: default."
    ),
]
Adapt = Annotated[
    AdaptChoice | None,
    typer.Option(
        help="Strength of the prior's adaptation: `fixed`, always full; `auto`, chosen with held-out "
        "measurements, which takes longer. Default: auto for d3ip, fixed for the others."
    ),
]
ConfigFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="YAML file with settings of the method. Options override the file."),
]
Prior = Annotated[
    str | None,
    typer.Option(
        metavar="PRIOR",
        help="Diffusion prior: a name from `ddip-ray prior list`, a diffusers directory, or a "
        "guided-diffusion or score_sde checkpoint. Default: default.",
    ),
]
RunSeed = Annotated[
    int | None,
    typer.Option(metavar="N", help="Random seed of the reconstruction. Default: the configuration's, or 0."),
]
Gpus = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Number of GPUs, with one worker on each. Default: all GPUs."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of CPU workers, instead of GPUs. Default, without a GPU: one per core; 1 for methods "
        "without a prior.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|ray://…|auto",
        callback=_set_ray_address,
        help="Address of a running Ray cluster; `auto` finds one on this machine. Default: the environment "
        "variable RAY_ADDRESS; if it is not set, this machine alone.",
    ),
]
SnapshotEvery = Annotated[
    str,
    typer.Option(
        metavar="N|TIME|never",
        help="Interval between snapshots, as a number of steps (20) or a time (90s, 10m, 1h). The same "
        "command continues from the last snapshot after an interruption.",
    ),
]
Circle = Annotated[
    bool, typer.Option("--circle", help="Score only the inscribed circle of each slice, not its corners.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
