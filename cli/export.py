"""`ddip-ray export RESULT`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite
from .output import progress


def export(
    result: Annotated[str, typer.Argument(help="A result of `ddip-ray reconstruct`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write: .nii or .nii.gz.")],
    phase: Annotated[
        bool, typer.Option("--phase", help="Of a complex image the phase in radians, not the magnitude.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a result as NIfTI, at its place in the scanner where that is known."""
    from ddip_ray.tasks.export import export as run

    with progress("slices") as report:
        run(result, output, phase=phase, overwrite=overwrite, report=report)
    print(output)
