"""The command line that a job runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ddip_ray.errors import InputError

LAUNCHABLE = ("reconstruct", "cohort run", "cohort resume")
PLACEMENT = ("--gpus", "--workers", "--executor", "--address")  # the job itself decides these


@dataclass(frozen=True)
class LaunchedCommand:
    """A command of ddip-ray to run in a job; ``words`` are those after ``ddip-ray``."""

    words: tuple[str, ...]

    @classmethod
    def parse(cls, words: Sequence[str]) -> LaunchedCommand:
        """Check the words that were given after ``--``.

        Raises:
            InputError: there is no command, it cannot run in a job, or it says itself where to run.
        """
        given = list(words[1:] if words[:1] == ["ddip-ray"] else words)
        expected = f"Expected, after --, one of: {', '.join(LAUNCHABLE)}"
        if not given:
            raise InputError("no command to launch", f"{expected}, e.g. -- reconstruct vol.zarr")
        name = " ".join(given[:2]) if given[0] == "cohort" else given[0]
        if name not in LAUNCHABLE:
            raise InputError(f"{name!r} cannot be launched", expected)
        for word in given:
            if word.partition("=")[0] in PLACEMENT:
                raise InputError(
                    f"{word} after --: the job decides where its command runs",
                    "Use `nodes` and `gpus_per_node` (or `cpus_per_node`) before --",
                )
        if name == "reconstruct" and "--elastic" not in given:
            given.append("--elastic")  # a job gets no new node for one that is lost
        return cls(tuple(given))

    @property
    def name(self) -> str:
        """The name of the command, for example "cohort run"."""
        return " ".join(self.words[:2]) if self.words[0] == "cohort" else self.words[0]

    @property
    def shell(self) -> str:
        """The command line, quoted for a shell."""
        return shlex.join(["ddip-ray", *self.words])
