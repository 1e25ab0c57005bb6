"""The commands of `ddip-ray launch`, put together."""

from __future__ import annotations

import typer

from .kubernetes import k8s
from .slurm import slurm
from .wait import wait

ANY_COMMAND = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(no_args_is_help=True, help="Run a command as a job of a Slurm or Kubernetes cluster.")
app.command("slurm", context_settings=ANY_COMMAND)(slurm)
app.command("wait")(wait)
app.command("k8s", context_settings=ANY_COMMAND)(k8s)
