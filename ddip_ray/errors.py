"""Errors that are not the program's fault: wrong input, lack of resources, interruptions."""


class InputError(Exception):
    """Something the user gave is wrong.

    The message names the file, setting or parameter, what was found and what was expected. The command line
    prints it and the hint without a traceback, and exits with a code other than 0.

    Args:
        message: what is wrong; parameters of the library in backquotes.
        hint: what to try next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)  # both, so that it survives pickling across workers
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class Unavailable(InputError):
    """Something is full, busy or unreachable now; a later try may succeed."""


class NoRoom(Unavailable):
    """The cluster is too small or, at the moment, too full."""


class Interrupted(Exception):
    """The user, or the cluster, has ended a run.

    Args:
        message: how far the run came.
        can_resume: whether the same command goes on from a snapshot.
    """

    def __init__(self, message: str, can_resume: bool = False) -> None:
        super().__init__(message, can_resume)
        self.message, self.can_resume = message, can_resume

    def __str__(self) -> str:
        return self.message


class WorkersLost(Exception):
    """Workers died or hang. The cause is the machine, not the computation, so new workers may succeed."""
