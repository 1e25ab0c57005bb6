"""The commands that can be launched as jobs, and their options as the job will read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from ..commands import cohort, reconstruct

if TYPE_CHECKING:
    from ddip_ray.launch.command import LaunchedCommand

# Those of `ddip_ray.launch.command.LAUNCHABLE`.
COMMANDS: dict[str, Callable[..., None]] = {
    "reconstruct": reconstruct.reconstruct,
    "cohort run": cohort.run,
    "cohort resume": cohort.resume,
}


def options_of(command: LaunchedCommand) -> Mapping[str, Any]:
    """The options in ``command`` by name; a mistake in them is found now instead of by a job in an hour."""
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command()(COMMANDS[command.name])
    parser: Any = typer.main.get_command(alone)
    words = list(command.words[len(command.name.split()) :])
    params: dict[str, Any] = parser.make_context(f"ddip-ray {command.name}", words).params
    return params
