"""The acquisition store: what was measured and how, as a Zarr v3 group.

``measurements`` float32 [z, view, detector] and, optionally, ``reference`` float32 [z, y, x] (normalised
image). Sharded along z into at most 64 files an array; an inner chunk is one slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import arrays, paths, staging
from ddip_ray.io.arrays import shard_slices
from ddip_ray.io.paths import StorePath
from ddip_ray.io.schema import ATTRIBUTE_KEY, AcquisitionMetadata, validate

MEASUREMENTS = "measurements"
REFERENCE = "reference"
REFERENCE_AXES = ("z", "y", "x")
MAX_CHUNK_BYTES = 4 * 2**20


def _inner_chunk(slice_shape: Sequence[int]) -> tuple[int, int, int]:
    """One slice, cut along its first axis where it exceeds 4 MiB."""
    rows, columns = slice_shape
    num_parts = -(-rows * columns * 4 // MAX_CHUNK_BYTES)
    return 1, -(-rows // min(num_parts, rows)), columns


@dataclass(frozen=True)
class Acquisition:
    """An open, validated acquisition. Only the path is kept open, so that it pickles and travels anywhere."""

    path: str
    metadata: AcquisitionMetadata
    num_slices: int
    shard_slices: int
    has_reference: bool

    def read_measurements(self, start: int, stop: int) -> NDArray[np.float32]:
        """Measurements of slices [start, stop), float32 (z, view, detector), all finite or InputError."""
        return self._read(MEASUREMENTS, start, stop, self.metadata.acquisition.measurement_axes)

    def read_reference(self, start: int, stop: int) -> NDArray[np.float32]:
        """Normalised reference image of slices [start, stop), float32 (z, y, x); InputError without one."""
        if not self.has_reference:
            raise InputError(f"{self.path}: has no reference image")
        return self._read(REFERENCE, start, stop, REFERENCE_AXES)

    def _read(self, name: str, start: int, stop: int, axes: Sequence[str]) -> NDArray[np.float32]:
        path = paths.join(self.path, name)
        data = arrays.read_slices(path, start, stop)
        arrays.require_finite(data, path, start, axes)
        return data


def open_acquisition(path: StorePath) -> Acquisition:
    """Open the acquisition at ``path`` and validate all but the numbers; InputError says what is wrong."""
    root = paths.absolute(path)
    attributes = arrays.read_attributes(root)
    if ATTRIBUTE_KEY not in attributes:
        raise InputError(
            f"{path}: a Zarr store, but not an acquisition (no attribute {ATTRIBUTE_KEY})",
            "Make one with `ddip-ray simulate` or `ddip-ray import`",
        )
    raw = attributes[ATTRIBUTE_KEY]
    if isinstance(raw, dict) and raw.get("kind") == "result":
        raise InputError(f"{path}: a result, not an acquisition", "Give the acquisition it was made from")
    metadata = validate(AcquisitionMetadata, raw, str(path))
    num_slices, stored_shard = _check_measurements(root, metadata)
    has_reference = paths.read_bytes(root, f"{REFERENCE}/{arrays.ROOT_KEY}") is not None
    if has_reference:
        reference = arrays.open_array(paths.join(root, REFERENCE))
        _check_array(root, REFERENCE, reference, (num_slices, *metadata.acquisition.image_shape))
    return Acquisition(root, metadata, num_slices, stored_shard, has_reference)


def _check_measurements(root: str, metadata: AcquisitionMetadata) -> tuple[int, int]:
    array = arrays.open_array(paths.join(root, MEASUREMENTS))
    acquisition = metadata.acquisition
    if array.ndim == 3 and array.shape[1] != acquisition.num_views:
        raise InputError(
            f"{root}: {acquisition.num_views} angles in acquisition.angles_deg, "
            f"{array.shape[1]} views in {MEASUREMENTS}"
        )
    _check_array(root, MEASUREMENTS, array, (array.shape[0], *acquisition.measurement_shape))
    return int(array.shape[0]), int(array.chunk_layout.write_chunk.shape[0])


def _check_array(root: str, name: str, array: Any, expected: tuple[int, ...]) -> None:
    if array.dtype.name != "float32":
        raise InputError(f"{root}: {name} is {array.dtype.name}, expected float32")
    if tuple(array.shape) != expected:
        raise InputError(f"{root}: {name} has shape {tuple(array.shape)}, the metadata says {expected}")


@dataclass
class AcquisitionWriter:
    """A new acquisition, invisible until `commit`. As a context manager it commits, or aborts on an error.

    Pickles, so that other processes may write their own shards; only the creator commits.
    """

    staging: staging.Staging
    metadata: AcquisitionMetadata
    num_slices: int
    shard_slices: int
    has_reference: bool
    _committed: bool = field(default=False, repr=False)

    def write_measurements(self, start: int, data: NDArray[Any]) -> None:
        """Write whole shards of measurements (z, view, detector) beginning at slice ``start``."""
        self._write(MEASUREMENTS, start, data, self.metadata.acquisition.measurement_axes)

    def write_reference(self, start: int, data: NDArray[Any]) -> None:
        """Write whole shards of the normalised reference (z, y, x) beginning at slice ``start``."""
        if not self.has_reference:
            raise ValueError("created without with_reference=True")
        self._write(REFERENCE, start, data, REFERENCE_AXES)

    def _write(self, name: str, start: int, data: NDArray[Any], axes: Sequence[str]) -> None:
        arrays.require_finite(data, f"{self.staging.target}/{name}", start, axes)
        arrays.write_shards(paths.join(self.staging.temporary, name), start, data)

    def commit(self) -> Acquisition:
        """Check that every slice was written, publish the store and open it."""
        names = [MEASUREMENTS, REFERENCE] if self.has_reference else [MEASUREMENTS]
        for name in names:
            if missing := arrays.missing_shards(paths.join(self.staging.temporary, name)):
                first = missing[0] * self.shard_slices
                raise RuntimeError(
                    f"{self.staging.target}: {len(missing)} shards of {name} were never written, the first "
                    f"begins at slice {first}"
                )
        attributes = {ATTRIBUTE_KEY: self.metadata.model_dump(mode="json")}
        staging.publish(self.staging, arrays.group_document(self.staging.temporary, attributes, names))
        self._committed = True
        return open_acquisition(self.staging.target)

    def abort(self) -> None:
        """Remove what was written; whatever was at the target stays."""
        if not self._committed:
            staging.abort(self.staging)

    def __enter__(self) -> AcquisitionWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif not self._committed:
            with staging.aborting(self.staging):
                self.commit()


def create_acquisition(
    path: StorePath,
    metadata: AcquisitionMetadata,
    num_slices: int,
    with_reference: bool,
    overwrite: bool = False,
) -> AcquisitionWriter:
    """Begin a new acquisition of ``num_slices`` slices at ``path``.

    Raises InputError when something is at ``path`` already (without ``overwrite``), when its folder is
    missing, or when the disk cannot hold it.
    """
    slice_shapes = {MEASUREMENTS: metadata.acquisition.measurement_shape}
    axes = {MEASUREMENTS: metadata.acquisition.measurement_axes, REFERENCE: REFERENCE_AXES}
    if with_reference:
        slice_shapes[REFERENCE] = metadata.acquisition.image_shape
    stage = staging.begin(path, overwrite)
    shard = shard_slices(num_slices)
    with staging.aborting(stage):
        paths.require_free_space(path, num_slices * 4 * sum(a * b for a, b in slice_shapes.values()))
        for name, slice_shape in slice_shapes.items():
            shape = (num_slices, *slice_shape)
            array_path = paths.join(stage.temporary, name)
            arrays.create_array(array_path, shape, shard, _inner_chunk(slice_shape), axes[name])
    return AcquisitionWriter(stage, metadata, num_slices, shard, with_reference)
