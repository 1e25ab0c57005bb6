"""Settings keys of earlier versions, which are still read for one version; a line says the new name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# section -> old key -> new key
_KEYS: dict[str, dict[str, str]] = {
    "sampler": {
        "quiet_t": "noise_free_below_t",
        "quiet_cg_iterations": "final_cg_iterations",
    },
    "adaptation": {
        "judge": "loss",
        "num_twins": "num_copies",
        "enough_twins": "target_copies",
    },
}
# (section, new key) -> old value -> new value
_VALUES: dict[tuple[str, str], dict[str, str]] = {("adaptation", "loss"): {"twins": "rescan"}}


def with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values``, by section, with today's keys in place of old ones.

    Raises:
        ValueError: an old key and its new name are both given.
    """
    renamed = dict(values)
    for section, given in _renamed_sections(values):
        renamed[section] = {}
        for key, value in given.items():
            new_key, new_value = _new(section, key, value)
            if new_key in renamed[section]:
                raise ValueError(f"{section}.{new_key} is given twice, also by its old name")
            renamed[section][new_key] = new_value
    return renamed


def old_names(values: Mapping[str, Any]) -> list[str]:
    """A sentence for each old key or value in ``values``: "sampler.quiet_t is now called …"."""
    return [
        f"{section}.{key}{_shown(value, new_value)} is now called "
        f"{section}.{new_key}{_shown(new_value, value)}"
        for section, given in _renamed_sections(values)
        for key, value in given.items()
        for new_key, new_value in [_new(section, key, value)]
        if (key, value) != (new_key, new_value)
    ]


def _renamed_sections(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The sections in ``values`` of which some keys have new names."""
    for section in _KEYS:
        given = values.get(section)
        if isinstance(given, Mapping):
            yield section, given


def _new(section: str, key: str, value: Any) -> tuple[str, Any]:
    new_key = _KEYS[section].get(key, key)
    table = _VALUES.get((section, new_key), {})
    return new_key, table.get(value, value) if isinstance(value, str) else value


def _shown(value: Any, other: Any) -> str:
    """The value behind its key, where it has another name, too."""
    return "" if value == other else f": {value}"
