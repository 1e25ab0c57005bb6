"""`ddip-ray launch`: the same commands as jobs of a cluster."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Run a command as a job of a cluster, on its nodes together.")
ANY_COMMAND = {"allow_extra_args": True, "ignore_unknown_options": True}
