"""Findings of the checks, and answers that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Status(StrEnum):
    """The severity of a finding; the most serious comes last."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: name of the check.
        where: a node, a pair of nodes, or "all".
        status: how serious it is.
        found: what was found.
        fix: what to do about it; empty if the check passed.
    """

    check: str
    where: str
    status: Status
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Observation:
    """One of the things that make up a finding."""

    found: str
    status: Status = Status.PASS
    fix: str = ""


@dataclass(frozen=True)
class Trouble:
    """Stands in for a node's answer, and says why there is none."""

    words: str


class Silence(Trouble):
    """Stands in for the answer of a node that cannot be asked again."""


def worst(statuses: Sequence[Status]) -> Status:
    """The most serious status; `Status.PASS` if there is none."""
    return max(statuses, key=list(Status).index, default=Status.PASS)


def combined(check: str, where: str, observations: Sequence[Observation]) -> Finding:
    """One finding made of several observations, as serious as the worst of them."""
    fixes = dict.fromkeys(seen.fix for seen in observations if seen.fix)
    return Finding(
        check,
        where,
        worst([seen.status for seen in observations]),
        "; ".join(seen.found for seen in observations),
        " ".join(fixes),
    )


def separated(
    check: str, answers: Mapping[str, T | Trouble], fix: str = "See the logs of Ray on that node."
) -> tuple[dict[str, T], list[Finding]]:
    """Separate the answers of nodes from the failures.

    Args:
        check: name of the check.
        answers: what each node answered, or why it did not.
        fix: what to do about a missing answer.

    Returns:
        The answers by node, and a failed finding for each node without one.
    """
    good, findings = dict[str, T](), list[Finding]()
    for where, answer in answers.items():
        if isinstance(answer, Trouble):
            findings.append(Finding(check, where, Status.FAIL, answer.words, fix))
        else:
            good[where] = answer
    return good, findings


def as_trouble(error: BaseException) -> Trouble:
    """The trouble that an error describes, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Trouble(": ".join([type(error).__name__, *lines[:1]])[:300])
