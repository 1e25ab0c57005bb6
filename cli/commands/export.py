"""`ddip-ray export RESULT`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Overwrite
from ..output import progress


def export(
    result: Annotated[str, typer.Argument(metavar="RESULT", help="Result of `ddip-ray reconstruct`.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="File to write: .nii or .nii.gz.")
    ],
    phase: Annotated[
        bool,
        typer.Option(
            "--phase", help="Write the phase of a complex image, in radians, instead of its magnitude."
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a result as a NIfTI file.

    Its position in the scanner is kept if it is known.
    """
    from ddip_ray.tasks.export import export as run

    with progress("slices") as report:
        run(result, output, phase=phase, overwrite=overwrite, report=report)
    print(output)
