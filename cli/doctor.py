"""`ddip-ray doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Address, AsJson
from .output import format_table, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddip_ray.doctor.findings import Finding

EXIT_FOUND = 1
MAX_NAMES = 3  # of nodes of which the same was found


def doctor(
    cluster: Address = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="As many as reconstruct will be asked for.")] = None,
    storage: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="A folder, or part of a bucket, that runs will use. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Is this machine, or a Ray cluster, ready for runs? Exit code 1 when something is not."""
    from ddip_ray.doctor.checkup import check_cluster

    findings = check_cluster(storage or [], gpus)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print(in_words(findings))
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(EXIT_FOUND)


def in_words(findings: Sequence[Finding]) -> str:
    """A table, nodes of which the same was found in one row; what to do about it; and the sum."""
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
    """(check, where, status, found, fix) of each kind of finding, with all places where it was found."""
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
