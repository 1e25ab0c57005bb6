"""What a check found, and how bad it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Status(StrEnum):
    """The worse the later."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """``where`` names a node, a pair of them, or all; ``fix`` says what to do unless it passed."""

    check: str
    where: str
    status: Status
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Part:
    """One of several things that a finding is made of."""

    found: str
    status: Status = Status.PASS
    fix: str = ""


@dataclass(frozen=True)
class Trouble:
    """In place of a node's answer: why there is none."""

    words: str


class Silence(Trouble):
    """The node cannot be asked any more."""


def worst(statuses: Sequence[Status]) -> Status:
    return max(statuses, key=list(Status).index, default=Status.PASS)


def combined(check: str, where: str, parts: Sequence[Part]) -> Finding:
    """One finding of all parts, as bad as the worst of them."""
    fixes = dict.fromkeys(part.fix for part in parts if part.fix)
    return Finding(
        check,
        where,
        worst([part.status for part in parts]),
        "; ".join(part.found for part in parts),
        " ".join(fixes),
    )


def separated(
    check: str, answers: Mapping[str, T | Trouble], fix: str = "See the logs of Ray on that node."
) -> tuple[dict[str, T], list[Finding]]:
    """The answers, by node, and a failure for each node that has none."""
    good, findings = dict[str, T](), list[Finding]()
    for where, answer in answers.items():
        if isinstance(answer, Trouble):
            findings.append(Finding(check, where, Status.FAIL, answer.words, fix))
        else:
            good[where] = answer
    return good, findings


def as_trouble(error: BaseException) -> Trouble:
    """In one line of an error's own words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Trouble(": ".join([type(error).__name__, *lines[:1]])[:300])
