"""`ddip-ray info STORE`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import AsJson
from ..output import format_fields, print_json


def info(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="Acquisition or result: a path, or an s3://, gs:// or http(s):// address."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show what an acquisition or a result contains."""
    from ddip_ray.io.stores.summary import summarize
    from ddip_ray.tasks.describe import in_words

    facts = summarize(store)
    if as_json:
        print_json(facts)
    else:
        print(format_fields(in_words(facts)))
