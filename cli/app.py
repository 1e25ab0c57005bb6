"""The commands, put together. This file imports them; no command imports it."""

from __future__ import annotations

from typing import Annotated

import typer

from ddip_ray import __version__

from .acquire import import_mri, import_projections, simulate, simulate_mri
from .commands import cohort, compare, demo, doctor, evaluate, export, info, plan, prior, reconstruct
from .launch.app import app as launch

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: instant, and readable in a pipe
    pretty_exceptions_enable=False,
    help="Reconstruct 3D CT and MRI volumes from few measurements, using a diffusion prior "
    "adapted to the scan.",
    epilog="Add --debug to any command to see where in the program an error came from.",
)
app.command("info")(info.info)
app.command("simulate")(simulate.simulate)
app.command("simulate-mri")(simulate_mri.simulate_mri)
app.command("import")(import_projections.import_projections)
app.command("import-mri")(import_mri.import_mri)
app.command("plan")(plan.plan)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("compare")(compare.compare)
app.add_typer(cohort.app, name="cohort")
app.add_typer(prior.app, name="prior")
app.add_typer(launch, name="launch")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ddip-ray {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
