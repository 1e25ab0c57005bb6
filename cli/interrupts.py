"""Signals, such as Ctrl-C or a cluster's warning, end a long command after its current step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CAN_RESUME = 75  # EX_TEMPFAIL of sysexits.h: "try again later"
# Slurm warns with the signal that the job asked for, usually USR1; Kubernetes with TERM.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether to stop after this step; a second signal ends all at once."""
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        name = signal.Signals(number).name
        # Not print: the signal may have interrupted one.
        os.write(2, f"{name}: stopping after this step; a second signal stops at once\n".encode())

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
