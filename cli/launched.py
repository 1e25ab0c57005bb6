"""The command that a job will run, read as it will be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ddip_ray.launch.command import LaunchedCommand


def options_of(command: LaunchedCommand) -> Mapping[str, Any]:
    """What the words after -- mean; a mistake in them is found now, and not by a job in an hour."""
    from .main import app

    parser: Any = typer.main.get_command(app)
    words = list(command.words)
    for _ in command.name.split():
        parser = parser.commands[words.pop(0)]
    params: dict[str, Any] = parser.make_context(f"ddip-ray {command.name}", words).params
    return params
