"""Zarr v3 groups and sharded arrays, read and written with tensorstore.

A group is one JSON document and an array belongs to tensorstore, so that local and remote stores share one
code path. Any Zarr reader opens what is written here. Every shard has one writer: an aligned write replaces a
whole file and needs no lock (locks on NFS and Lustre are unreliable).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.paths import StorePath

ROOT_KEY = "zarr.json"
CHANNEL = "c"
MAX_SHARDS = 64
_BLOCK_BYTES = 64 * 2**20
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_BLOSC = {
    "name": "blosc",
    "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
}
_CHECKSUM = {"name": "crc32c"}  # Blosc has no checksum: a flipped bit would pass for measured data
_DAMAGED = ("DATA_LOSS", "INVALID_ARGUMENT", "FAILED_PRECONDITION")
_FILL_VALUES = {"float32": "NaN", "complex64": ["NaN", "NaN"], "bool": False}


def shard_slices(num_slices: int) -> int:
    """The number of slices in a shard, such that a volume of ``num_slices`` is at most 64 files.

    That is few files to copy, and enough for many workers to write at the same time.
    """
    return -(-num_slices // MAX_SHARDS)


def block_slices(num_slices: int, slice_bytes: int) -> int:
    """The number of slices that a reader loads together: those of a shard, but not more than 64 MiB."""
    return max(1, min(shard_slices(num_slices), _BLOCK_BYTES // slice_bytes))


def group_document(path: StorePath, attributes: Mapping[str, Any], arrays: Sequence[str]) -> bytes:
    """The root document of a group.

    It repeats the arrays' metadata ("consolidated"), so that one request opens a remote store and the web,
    which cannot list keys, shows the arrays.
    """
    members = {name: json.loads(paths.read_bytes(path, f"{name}/{ROOT_KEY}") or b"null") for name in arrays}
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": dict(attributes),
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": members},
    }
    return json.dumps(document, indent=1, allow_nan=False).encode()


def read_attributes(path: StorePath) -> dict[str, Any]:
    """The attributes of the Zarr v3 group at ``path``; InputError when there is no such group."""
    document = paths.read_bytes(path, ROOT_KEY)
    if document is None:
        if not paths.exists(path):
            raise InputError(f"{path}: no such store", "Check the path")
        raise InputError(f"{path}: not a Zarr v3 store (it has no {ROOT_KEY})", _unfinished_hint(path))
    try:
        root = json.loads(document)
        node_type, attributes = root["node_type"], root.get("attributes", {})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: {ROOT_KEY} is damaged ({error!r})",
            f"Restore {ROOT_KEY} from a copy, or make the store again",
        ) from error
    if node_type != "group" or not isinstance(attributes, dict):
        raise InputError(f"{path}: a Zarr {node_type}, expected a group")
    return attributes


def _unfinished_hint(path: StorePath) -> str:
    unfinished = paths.is_remote(path) and any(key.endswith(f"/{ROOT_KEY}") for key in paths.list_keys(path))
    return "It was left unfinished: write it again" if unfinished else ""


def create_array(
    path: StorePath,
    shape: Sequence[int],
    shard_slices: int,
    inner_chunk: tuple[int, ...],
    axes: tuple[str, ...],
    *,
    dtype: str = "float32",
) -> None:
    """Create an array [z, ...] filled with NaN (bool: False).

    NaN as the fill value reveals a slice that nobody wrote, where zero would look like air. An array with
    ``axes`` (z, c, ...) is stored with its channels first, as OME-Zarr wants, and is [z, c, ...] to all
    functions of this module.

    Args:
        path: Where the array goes, inside its group.
        shape: Shape, z first.
        shard_slices: Slices a shard, which is a file.
        inner_chunk: Shape of the chunks inside a shard; its slices must divide ``shard_slices``.
        axes: Names of the axes, z first.
        dtype: float32, complex64 or bool.
    """
    import tensorstore as ts

    if shard_slices % inner_chunk[0]:
        raise ValueError(f"{inner_chunk[0]} slices a chunk do not divide {shard_slices} slices a shard")
    shard = [shard_slices]
    shard += [-(-size // chunk) * chunk for size, chunk in zip(shape[1:], inner_chunk[1:], strict=True)]
    sharding = {
        "chunk_shape": _as_stored(inner_chunk, axes),
        "codecs": [_BYTES, _BLOSC, _CHECKSUM],
        "index_codecs": [_BYTES, _CHECKSUM],
        "index_location": "end",
    }
    metadata = {
        "shape": _as_stored([int(size) for size in shape], axes),
        "data_type": dtype,
        "fill_value": _FILL_VALUES[dtype],
        "dimension_names": _as_stored(axes, axes),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": _as_stored(shard, axes)}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }
    spec = {"driver": "zarr3", "kvstore": paths.kvstore_spec(path), "metadata": metadata}
    with paths.storage_errors(path):
        ts.open(spec, create=True, delete_existing=True).result()


def _as_stored(values: Sequence[Any], axes: Sequence[str]) -> list[Any]:
    """The same values in the order of the stored axes: OME-Zarr wants channels before z."""
    return [values[1], values[0], *values[2:]] if axes[1] == CHANNEL else list(values)


def open_array(path: StorePath) -> Any:
    """The tensorstore array at ``path``, z first; opening takes less than a millisecond, so none is kept."""
    import tensorstore as ts

    with paths.storage_errors(path):
        try:
            spec = {"driver": "zarr3", "kvstore": paths.kvstore_spec(path)}
            # write shards of nothing but the fill value, too, so that `missing_shards` sees them
            array = ts.open(spec | {"store_data_equal_to_fill_value": True}).result()
        except ValueError as error:
            if "NOT_FOUND" in str(error):
                raise InputError(f"{path}: no such array") from error
            if any(status in str(error) for status in _DAMAGED):
                raise InputError(f"{path}: its metadata are damaged: {error}") from error
            raise
    channels_first = array.domain.labels[0] == CHANNEL
    return array.transpose([1, 0, *range(2, array.ndim)]) if channels_first else array


def read_slices(path: StorePath, start: int, stop: int) -> NDArray[Any]:
    """Slices [start, stop) of the array at ``path``.

    Raises:
        IndexError: slices outside the array.
        InputError: damaged data.
    """
    array = open_array(path)
    if not 0 <= start < stop <= array.shape[0]:
        raise IndexError(f"slices {start} to {stop} of {path}, which has {array.shape[0]}")
    with paths.storage_errors(path):
        try:
            data: NDArray[Any] = array[start:stop].read().result()
        except ValueError as error:
            if any(status in str(error) for status in _DAMAGED):
                raise InputError(f"{path}: slices {start} to {stop} are damaged: {error}") from error
            raise
    return data


def write_shards(path: StorePath, start: int, data: NDArray[Any]) -> None:
    """Write whole shards of ``data`` [z, ...] from slice ``start``; ValueError if a shard would be cut."""
    array = open_array(path)
    dtype = array.dtype.numpy_dtype
    if data.dtype.kind != dtype.kind:
        raise ValueError(f"{path}: data of type {data.dtype}, expected {dtype}")
    num_slices, *rest = array.shape
    stop = start + len(data)
    if list(data.shape[1:]) != rest:
        raise ValueError(f"{path}: slices of shape {data.shape[1:]}, expected {tuple(rest)}")
    shard_slices = array.chunk_layout.write_chunk.shape[0]
    ends_well = stop == num_slices or (stop < num_slices and stop % shard_slices == 0)
    if start < 0 or start % shard_slices or not ends_well or stop <= start:
        raise ValueError(
            f"{path}: slices {start} to {stop} are not whole shards: start {start} = "
            f"{start // shard_slices} x {shard_slices} + {start % shard_slices}, stop {stop} = "
            f"{stop // shard_slices} x {shard_slices} + {stop % shard_slices}; a writer owns whole shards of "
            f"{shard_slices} of the {num_slices} slices"
        )
    with paths.storage_errors(path):
        _write_all(array, start, np.ascontiguousarray(data, dtype=dtype), shard_slices)


def _write_all(array: Any, start: int, data: NDArray[Any], shard_slices: int) -> None:
    """Write the shards in parallel, and raise only when all writes have ended.

    A single write of all shards would report its first failure while the other shards still create files,
    which would then survive the removal of the store.
    """
    pending = []
    for first in range(0, len(data), shard_slices):
        part = data[first : first + shard_slices]
        pending.append(array[start + first : start + first + len(part)].write(part))
    failures = [failure for write in pending if (failure := write.exception()) is not None]
    if failures:
        raise failures[0]


def missing_shards(path: StorePath) -> list[int]:
    """The numbers along z of shards that have not been written yet."""
    array = open_array(path)
    shard_slices = array.chunk_layout.write_chunk.shape[0]
    place = 2 if array.domain.labels[1] == CHANNEL else 1  # keys are c/z/... or c/channel/z/...
    written = {int(key.split("/")[place]) for key in paths.list_keys(path, "c/")}
    return [shard for shard in range(-(-array.shape[0] // shard_slices)) if shard not in written]


def require_finite(data: NDArray[Any], where: str, start: int, axes: Sequence[str]) -> None:
    """Raise an error that names the first NaN or infinite value.

    Args:
        data: The values, slices first.
        where: What they are, for the message.
        start: Index of the first slice.
        axes: Names of the axes.

    Raises:
        InputError: a value is NaN or infinite.
    """
    finite = np.isfinite(data)
    if finite.all():
        return
    first = np.unravel_index(int(np.argmin(finite)), data.shape)
    index = [int(first[0]) + start, *(int(i) for i in first[1:])]
    place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, index, strict=True))
    raise InputError(
        f"{where}: {int(finite.size - finite.sum())} of {finite.size} values are NaN or infinite, "
        f"the first at {place}"
    )
