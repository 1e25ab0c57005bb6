"""Parameter names in messages of the library, translated to the options of the command that was run.

The library serves Python and the command line, so its messages name parameters in backquotes: "`num_views`:
found 0". A user of the command line reads "--views: found 0".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

# Parameters of the library whose option no rule finds: library name -> parameter of a command.
OTHER_NAMES = {
    "adaptation.policy": "adapt",
    "image_path": "image",
    "num_coils": "compress_coils",  # of import-mri; simulate-mri has --coils
}
_QUOTED = re.compile(r"`([a-z][\w.]*)(?:=([^`]+))?`")
_PREFIXES = ("num_", "is_")
_SUFFIXES = ("_deg", "_mm")


def command_of(app: Any, words: Sequence[str]) -> Any:
    """The click command that ``words`` run; the group itself, if they name none of its commands."""
    command = app
    for word in words:
        if word.startswith("-"):
            continue
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
    return command


def with_options(message: str, command: Any) -> str:
    """``message`` with the options of ``command`` in place of backquoted parameter names.

    "`num_views`" becomes "--views", "`method="dds"`" becomes "--method dds" and "`whiten=False`" becomes
    "--no-whiten". A name that the command has no option for stays as it is.

    Args:
        message: text of the library, for example of an `InputError`.
        command: a click command, whose parameters are looked at.
    """
    options = {parameter.name: parameter for parameter in command.params}

    def translated(found: re.Match[str]) -> str:
        name, value = found.groups()
        for candidate in _candidates(name):
            if candidate in options:
                words = _words(options[candidate], value)
                return found[0] if words is None else words
        return found[0]

    return _QUOTED.sub(translated, message)


def _candidates(name: str) -> Iterator[str]:
    """Names that a command may use for the library's parameter ``name``, the likeliest first."""
    yield name
    for prefix in ("", *_PREFIXES):
        for suffix in ("", *_SUFFIXES):
            if name.startswith(prefix) and name.endswith(suffix):
                yield name.removeprefix(prefix).removesuffix(suffix)
    if name in OTHER_NAMES:
        yield OTHER_NAMES[name]


def _words(parameter: Any, value: str | None) -> str | None:
    """The words of a command line that give ``parameter`` this value; None if there are none."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = [next(o for o in opts if o.startswith("--")) for opts in _spellings(parameter)]
    if value is None:
        return "/".join(names)
    given = _literal(value)
    if given is None:
        return None
    if isinstance(given, bool):
        return names[0] if given else names[1] if len(names) > 1 else None
    return " ".join([names[0], *map(str, given if isinstance(given, tuple | list) else [given])])


def _spellings(parameter: Any) -> list[list[str]]:
    """Its option strings and, of a switch that can be turned off, those that turn it off."""
    return [spellings for spellings in (parameter.opts, parameter.secondary_opts) if spellings]


def _literal(text: str) -> Any:
    """The value of a Python literal; other text, such as NAME in "`key=NAME`", is its own value."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
