"""The priors that ship with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ddip_ray.errors import InputError
from ddip_ray.prior.formats import CHECKPOINTS

SHIPPED = Path(__file__).parent / "weights"


def shipped_priors() -> dict[str, dict[str, Any]]:
    """Name and model card of every prior in the package."""
    cards = sorted(SHIPPED.glob("*/card.json"))
    return {card.parent.name: json.loads(card.read_text()) for card in cards}


def find_prior(name: str) -> Path:
    """The directory of a shipped prior, or the user's own directory or checkpoint.

    Raises:
        InputError: neither.
    """
    if (SHIPPED / name / "config.json").is_file():
        return SHIPPED / name
    path = Path(name)
    if path.is_dir() or (path.is_file() and path.suffix in CHECKPOINTS):
        return path
    shipped = ", ".join(shipped_priors()) or "none shipped"
    raise InputError(
        f"no prior {name!r}: neither a directory, nor a .pt or .pth file, nor one of {shipped}",
        "See `ddip-ray prior list`, or give a diffusers directory or a guided-diffusion checkpoint.",
    )
