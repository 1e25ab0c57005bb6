"""What ends a command that is no fault of the program."""


class InputError(Exception):
    """Something the user gave is wrong.

    The message names the file, field or flag, what was found and what was expected;
    ``hint`` says what to try next. The command line prints both and exits non-zero
    without a traceback.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)  # both, so that it survives pickling across workers
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class Unavailable(InputError):
    """Something is full, busy or away, and may not be in a while."""


class NoRoom(Unavailable):
    """The cluster is too small or, for now, too full."""


class Interrupted(Exception):
    """The user, or the machine's owner, ends a run; with ``can_resume`` the same command goes on."""

    def __init__(self, message: str, can_resume: bool = False) -> None:
        super().__init__(message, can_resume)
        self.message, self.can_resume = message, can_resume

    def __str__(self) -> str:
        return self.message


class WorkersLost(Exception):
    """Workers died or hang: of the machine, not of what they compute. New ones may well succeed."""
