"""`ddip-ray`: run one command line, and end with an honest exit code."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from ddip_ray.errors import InputError, Interrupted, WorkersLost

from .app import app
from .interrupts import EXIT_CAN_RESUME
from .output import say
from .parameters import command_of, with_options

EXIT_INPUT_ERROR = 2  # the exit code of a wrong option, too
EXIT_INTERRUPTED = 130


def main(words: Sequence[str]) -> int:
    """Run one command line; the exit code. Only mistakes of the user are caught: a crash stays a crash."""
    debug = "--debug" in words

    def translated(text: str) -> str:
        return with_options(text, command_of(typer.main.get_command(app), words))

    try:
        with _configuration_warnings_in_a_line():
            app([word for word in words if word != "--debug"], prog_name="ddip-ray")
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:
            say("interrupted")
        return end.code if isinstance(end.code, int) else 0
    except Interrupted as error:
        say(error.message)
        return _say_how_to_go_on(words) if error.can_resume else EXIT_INTERRUPTED
    except WorkersLost as error:
        if debug:
            raise
        say(f"error: {translated(str(error))}")
        return _say_how_to_go_on(words)
    except InputError as error:
        if debug:
            raise
        say(f"error: {translated(error.message)}")
        if error.hint:
            say(f"  hint: {translated(error.hint)}")
        return EXIT_INPUT_ERROR
    return 0


@contextmanager
def _configuration_warnings_in_a_line() -> Iterator[None]:
    """Show a warning about the user's configuration as one line; others look as Python has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", message="configuration ", category=FutureWarning)
        show = warnings.showwarning

        def in_a_line(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, FutureWarning) and str(message).startswith("configuration "):
                say(f"warning: {message}")
            else:
                show(message, category, *place, **more)

        warnings.showwarning = in_a_line
        yield


def _say_how_to_go_on(words: Sequence[str]) -> int:
    command = ["ddip-ray", *(word for word in words if word != "--restart")]
    say(f"  go on with: {shlex.join(command)}")
    return EXIT_CAN_RESUME


def run() -> None:
    """Run the command line of this process, and exit with its code."""
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.exit(code)
