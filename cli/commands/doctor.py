"""`ddip-ray doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import Address, AsJson
from ..output import format_table, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddip_ray.doctor.findings import Finding

EXIT_FOUND = 1
MAX_NAMES = 3  # names of nodes with the same finding that are printed


def doctor(
    cluster: Address = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of GPUs that runs will use. Default: not checked."),
    ] = None,
    storage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Folder or part of a bucket (s3://…) that runs will use. Can be given several times.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check whether this machine or a Ray cluster is ready.

    Prints what is missing and how to fix it. The exit code is 1 if a check failed.
    """
    from ddip_ray.doctor.checkup import check_cluster

    findings = check_cluster(storage or [], gpus)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print(in_words(findings))
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(EXIT_FOUND)


def in_words(findings: Sequence[Finding]) -> str:
    """The findings as a table, a list of fixes and a line of counts.

    Nodes with the same finding share a row.
    """
    rows = merged(findings)
    table = [["check", "where", "", "found"]]
    table += [[check, where, status, found] for check, where, status, found, _ in rows]
    lines = [format_table(table)]
    fixes = [f"  {check}, {where}: {fix}" for check, where, _, _, fix in rows if fix]
    if fixes:
        lines += ["", "to do:", *fixes]
    counts = {word: sum(f.status == word for f in findings) for word in ("pass", "warn", "fail")}
    lines += ["", f"{counts['pass']} passed, {counts['warn']} warnings, {counts['fail']} failed"]
    return "\n".join(lines)


def merged(findings: Sequence[Finding]) -> list[tuple[str, str, str, str, str]]:
    """Rows (check, where, status, found, fix), one for each kind of finding, which names all its places."""
    places: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in findings:
        kind = (finding.check, finding.status.value, finding.found, finding.fix)
        places.setdefault(kind, []).append(finding.where)
    return [
        (check, _names(where), status, found, fix) for (check, status, found, fix), where in places.items()
    ]


def _names(places: Sequence[str]) -> str:
    more = len(places) - MAX_NAMES
    return ", ".join(places[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
