"""`ddip-ray`: the commands, wired."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ddip_ray import __version__
from ddip_ray.errors import InputError, Interrupted, WorkersLost

from . import (
    cohort,
    compare,
    demo,
    doctor,
    evaluate,
    export,
    import_mri,
    import_projections,
    info,
    launch,
    plan,
    prior,
    reconstruct,
    simulate,
    simulate_mri,
)
from .interrupts import EXIT_CAN_RESUME
from .parameters import command_of, with_options

EXIT_INPUT_ERROR = 2  # what command lines answer to a wrong option, too
EXIT_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: instant, and readable in a pipe
    pretty_exceptions_enable=False,
    help="Reconstruct 3D volumes from few measurements with a diffusion prior adapted to the scan.",
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
app.add_typer(launch.app, name="launch")
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


def main(words: Sequence[str]) -> int:
    """Run one command line; the exit code. Only mistakes of the user are caught: a crash stays a crash."""
    debug = "--debug" in words

    def translated(text: str) -> str:
        return with_options(text, command_of(typer.main.get_command(app), words))

    try:
        app([word for word in words if word != "--debug"], prog_name="ddip-ray")
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:
            print("interrupted", file=sys.stderr)
        return end.code if isinstance(end.code, int) else 0
    except Interrupted as error:
        print(error.message, file=sys.stderr)
        return _say_how_to_go_on(words) if error.can_resume else EXIT_INTERRUPTED
    except WorkersLost as error:
        if debug:
            raise
        print(f"error: {translated(str(error))}", file=sys.stderr)
        return _say_how_to_go_on(words)
    except InputError as error:
        if debug:
            raise
        print(f"error: {translated(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {translated(error.hint)}", file=sys.stderr)
        return EXIT_INPUT_ERROR
    return 0


def _say_how_to_go_on(words: Sequence[str]) -> int:
    command = ["ddip-ray", *(word for word in words if word != "--restart")]
    print(f"  go on with: {shlex.join(command)}", file=sys.stderr)
    return EXIT_CAN_RESUME


def run() -> None:
    """The console command."""
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.exit(code)
