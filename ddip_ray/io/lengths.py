"""Units of length as image and projection files spell them."""

from __future__ import annotations

_MM = {"m": 1e3, "cm": 10.0, "mm": 1.0, "um": 1e-3, "nm": 1e-6, "inch": 25.4}
_UNIT_NAMES = {
    "meter": "m", "metre": "m", "centimeter": "cm", "millimeter": "mm", "millimetre": "mm",
    "micrometer": "um", "micrometre": "um", "micron": "um", "microns": "um", "µm": "um", "μm": "um",
    "\\u00b5m": "um", "nanometer": "nm", "in": "inch",
}  # fmt: skip


def mm_per(unit: str) -> float | None:
    """Millimetres in a unit of length; None for an unknown unit."""
    spelled = unit.strip().lower()
    return _MM.get(_UNIT_NAMES.get(spelled, spelled))
