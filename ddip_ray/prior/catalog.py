"""The priors that ship with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ddip_ray.errors import InputError

SHIPPED = Path(__file__).parent / "weights"


def shipped_priors() -> dict[str, dict[str, Any]]:
    """Name and model card of every prior in the package."""
    cards = sorted(SHIPPED.glob("*/card.json"))
    return {card.parent.name: json.loads(card.read_text()) for card in cards}


def find_prior(name: str) -> Path:
    """The directory of a shipped prior, or of the user's own.

    Raises:
        InputError: neither.
    """
    if (SHIPPED / name / "config.json").is_file():
        return SHIPPED / name
    if Path(name).is_dir():
        return Path(name)
    raise InputError(
        f"no prior {name!r}: neither a directory nor one of {', '.join(shipped_priors()) or 'none shipped'}",
        "See `ddip-ray prior list`, or give a diffusers directory.",
    )
