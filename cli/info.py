"""`ddip-ray info STORE`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import AsJson
from .output import format_fields, print_json


def info(
    store: Annotated[
        str, typer.Argument(help="An acquisition or a result: a path, s3://, gs:// or http(s)://.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say what is in an acquisition or a result."""
    from ddip_ray.io.stores.summary import summarize
    from ddip_ray.tasks.describe import in_words

    facts = summarize(store)
    if as_json:
        print_json(facts)
    else:
        print(format_fields(in_words(facts)))
