"""Arrays and documents of a snapshot below a run's folder, each written whole and verified by its hash."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.stores.schema import Frozen


class DamagedSnapshot(InputError):
    """An error for a file of a snapshot that is missing or is not what was written."""


class StoredArray(Frozen):
    """The key of an array (.npy) below the folder, and the SHA-256 of that file."""

    key: str
    sha256: str


def write_array(folder: str, key: str, array: NDArray[Any]) -> StoredArray:
    """Write an array and read it back.

    Raises:
        InputError: no space or no access.
        DamagedSnapshot: what was read back differs.
    """
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    data = buffer.getvalue()
    stored = StoredArray(key=key, sha256=hashlib.sha256(data).hexdigest())
    paths.write_bytes(folder, key, data)
    _read(folder, stored)
    return stored


def read_array(folder: str, stored: StoredArray) -> NDArray[Any]:
    """The array that `write_array` wrote; DamagedSnapshot if it is missing or damaged."""
    array: NDArray[Any] = np.load(io.BytesIO(_read(folder, stored)), allow_pickle=False)
    return array


def _read(folder: str, stored: StoredArray) -> bytes:
    data = paths.read_bytes(folder, stored.key)
    if data is None or hashlib.sha256(data).hexdigest() != stored.sha256:
        found = "missing" if data is None else "not what was written"
        raise DamagedSnapshot(f"{paths.join(folder, stored.key)}: {found}")
    return data


def write_document(folder: str, name: str, document: Frozen) -> None:
    """Write ``name``.json, whole or not at all."""
    paths.write_bytes(folder, f"{name}.json", document.model_dump_json(indent=1).encode())


def read_documents(folder: str, model: type[Frozen]) -> list[Any]:
    """All documents that can be read, the last name first."""
    found = []
    for key in reversed(_documents(folder)):
        try:
            found.append(model.model_validate_json(paths.read_bytes(folder, key) or b""))
        except (ValidationError, json.JSONDecodeError):
            continue
    return found


def delete_all_but(folder: str, names: set[str]) -> None:
    """Delete every document, and every folder of arrays, whose name is not among ``names``."""
    for key in _documents(folder):
        if key.removesuffix(".json") not in names:
            with paths.storage_errors(folder):
                paths.open_kvstore(folder).write(key, None).result()
    for name in {key.partition("/")[0] for key in paths.list_keys(folder) if "/" in key} - names:
        paths.delete_tree(paths.join(folder, name))


def _documents(folder: str) -> list[str]:
    if not paths.exists(folder):
        return []
    return [key for key in paths.list_keys(folder) if key.endswith(".json") and "/" not in key]
