"""What Ctrl-C, and a cluster's warning before it takes a machine back, do to a long command."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CAN_RESUME = 75  # "try again later", of sysexits.h
# Slurm warns with what the job asked for, by custom USR1; Kubernetes with TERM.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Yields whether to stop after the step that is being made; a second signal ends the command at once."""
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        name = signal.Signals(number).name
        # Not print, which a signal may have interrupted.
        os.write(2, f"{name}: stopping after this step; once more to stop at once\n".encode())

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
