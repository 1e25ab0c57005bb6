"""The reference of all commands as Markdown, from which the documentation is made."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from .app import app


def command_reference() -> str:
    """Markdown of all commands with their arguments, options and defaults, in the order of the help."""
    return "\n".join(_sections(typer.main.get_command(app), "ddip-ray", None)) + "\n"


def _sections(command: Any, path: str, parent: Any) -> Iterator[str]:
    """The lines about ``command``, called as ``path``, and about the commands below it."""
    context = command.context_class(command, parent=parent, info_name=path.rsplit(" ", maxsplit=1)[-1])
    usage = " ".join([path, *_usage(command)])
    yield from [f"{'#' * (path.count(' ') + 2)} `{path}`", "", *_text(command.help), "```", usage, "```", ""]
    rows = [record for record in (p.get_help_record(context) for p in command.get_params(context)) if record]
    rows = [(names, words) for names, words in rows if not names.startswith("--help")]
    if rows:
        yield from ["| | |", "|---|---|"]
        yield from (f"| `{_cell(names)}` | {_cell(words)} |" for names, words in rows)
        yield ""
    for name in command.list_commands(context) if hasattr(command, "commands") else ():
        yield from _sections(command.commands[name], f"{path} {name}", context)


def _usage(command: Any) -> list[str]:
    """The words after the command's name: required options, arguments, and ``-- COMMAND`` of a launch."""
    if hasattr(command, "commands"):
        return ["COMMAND"]
    words = ["[OPTIONS]"]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = parameter.metavar or parameter.name.upper()
            words.append(name if parameter.required else f"[{name}]")
    return [*words, "--", "COMMAND"] if command.context_settings.get("allow_extra_args") else words


def _text(text: str | None) -> list[str]:
    return [*inspect.cleandoc(text).splitlines(), ""] if text else []


def _cell(text: str) -> str:
    """``text`` as it has to stand in a cell of a table."""
    return " ".join(text.split()).replace("|", r"\|")
