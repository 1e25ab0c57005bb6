"""The volumes of a cohort: from a YAML file, a folder or a pattern."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from ddip_ray.config.load import load_config
from ddip_ray.config.methods import overlaid
from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.arrays import read_attributes
from ddip_ray.io.stores.schema import ATTRIBUTE_KEY, Frozen
from ddip_ray.prior.catalog import shipped_priors
from ddip_ray.tasks.cohort.adapter_library import require_tag
from ddip_ray.tasks.cohort.ledger import Entry


class CohortVolume(Frozen):
    """A volume in a YAML file.

    ``store`` is relative to the file's folder, and ``config`` holds settings of this volume alone. Volumes
    with the same ``tag``, a scanner or protocol, can start from each other's adapters.
    """

    store: str
    name: str | None = None
    tag: str = "default"
    config: dict[str, Any] = Field(default_factory=dict)


class CohortFile(Frozen):
    """The YAML file of a cohort; ``config`` holds settings of all its volumes."""

    config: dict[str, Any] = Field(default_factory=dict)
    volumes: tuple[CohortVolume, ...]


def find_volumes(source: str, settings: Mapping[str, Any], folder: Path) -> list[Entry]:
    """The volumes of a cohort, with results to be written to ``folder``/NAME.zarr.

    Damaged stores are no error here, because one bad volume must not stop the others.

    Args:
        source: A YAML file (`CohortFile`), a folder of stores, or a pattern of their paths. Results among the
            stores are left out.
        settings: Settings of all volumes, over those of a YAML file.
        folder: Folder of the results.

    Raises:
        InputError: no volumes, two with the same name, or settings that are not valid.
    """
    if source.endswith((".yaml", ".yml")):
        cohort = _read(Path(source))
    else:
        found = sorted(Path(source).glob("*.zarr")) if Path(source).is_dir() else _matching(source)
        stores = [str(path) for path in found if not _is_result(path)]
        cohort = CohortFile(volumes=tuple(CohortVolume(store=store) for store in stores))
    if not cohort.volumes:
        raise InputError(f"{source}: no volumes", "Expected a YAML file, a folder of .zarr, or a pattern")
    entries = [_entry(volume, overlaid(cohort.config, dict(settings)), folder) for volume in cohort.volumes]
    twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if twice:
        raise InputError(
            f"{source}: several volumes are called {', '.join(twice)}", "Give them names, in a YAML file"
        )
    return entries


def _read(path: Path) -> CohortFile:
    try:
        cohort = CohortFile.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        bullets = [f"\n  - {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise InputError(f"{path}:{''.join(bullets)}") from error
    stores = [
        v if paths.is_remote(v.store) else v.model_copy(update={"store": str(path.parent / v.store)})
        for v in cohort.volumes
    ]
    return cohort.model_copy(update={"volumes": tuple(stores)})


def _matching(pattern: str) -> list[Path]:
    return [Path(path) for path in sorted(glob.glob(pattern))]


def _is_result(path: Path) -> bool:
    try:
        attributes = read_attributes(str(path)).get(ATTRIBUTE_KEY)
    except InputError:
        return False  # a damaged store is kept: its run will report it
    return isinstance(attributes, dict) and attributes.get("kind") == "result"


def _entry(volume: CohortVolume, settings: dict[str, Any], folder: Path) -> Entry:
    own = overlaid(settings, volume.config)
    load_config(None, own)
    # absolute, because workers and later commands may run in other folders
    for key in ("prior", "adapter", "start_from"):
        is_shipped = key == "prior" and own.get(key) in shipped_priors()
        if own.get(key) and not is_shipped and Path(own[key]).exists():
            own[key] = str(Path(own[key]).absolute())
    name = volume.name or Path(volume.store).name.removesuffix(".zarr")
    if name != Path(name).name or name.startswith("."):
        raise InputError(f"volume {name!r}: a name must be a file name without folders or a leading dot")
    require_tag(volume.tag)
    store = str(paths.absolute(volume.store))
    output = str(paths.absolute(str(folder / f"{name}.zarr")))
    return Entry(
        name=name, store=store, output=output, settings=own, tag=volume.tag, num_bytes=_num_bytes(store)
    )


def _num_bytes(store: str) -> int:
    """The bytes of a store's measurements; 0 if the store cannot be read."""
    try:
        acquisition = open_acquisition(store)
    except InputError:
        return 0
    return acquisition.num_slices * acquisition.slice_bytes
