"""Projections in NumPy archives (.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddip_ray.errors import InputError
from ddip_ray.io.npz import open_npz
from ddip_ray.io.projections.raw import RawProjections, lazy_rows

_MEANINGS = {"line_integrals": False, "transmission": True, "projections": None}  # is_transmission by name


def read_npz(path: Path, key: str | None) -> RawProjections:
    """The array ``key``, by default ``line_integrals``, ``transmission`` or ``projections``.

    ``angles_deg`` and ``pixel_mm`` beside it are read, too.
    """
    with open_npz(path) as archive:
        names = archive.files
        found = key or next((name for name in _MEANINGS if name in names), None)
        if found is None or found not in names:
            wanted = key or ", ".join(_MEANINGS)
            raise InputError(f"{path}: no array {wanted}; it has {', '.join(names) or 'none'}")
        data = archive[found]
        angles = None
        if "angles_deg" in names:
            angles = np.asarray(archive["angles_deg"], dtype=np.float64).ravel()
        pixel_mm = float(archive["pixel_mm"]) if "pixel_mm" in names else None
    lazy_data = lazy_rows(f"{path}: {found}", data)
    history = (f"array {found}",)
    return RawProjections(lazy_data, "npz", angles, _MEANINGS.get(found), pixel_mm=pixel_mm, history=history)
