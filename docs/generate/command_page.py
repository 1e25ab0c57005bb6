"""The reference of the command line."""

from __future__ import annotations

from ddip_ray_cli.reference import command_reference


def command_page() -> str:
    """The page ``reference/cli.md``."""
    return "# Commands\n\n" + command_reference()
