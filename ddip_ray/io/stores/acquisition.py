"""The acquisition store: measurements and their geometry, as a Zarr v3 group.

Arrays, by kind of acquisition:

- CT: ``measurements`` float32 [z, view, detector].
- Cartesian MRI: ``measurements`` complex64 [z, coil, ky, kx] and ``sampling_mask`` bool [z, ky, kx].
- Non-Cartesian MRI: ``measurements`` complex64 [z, coil, readout, sample] and ``trajectory`` float32
  [z, readout, sample, 2].
- MRI, optionally: ``sensitivity_maps`` complex64 [z, coil, y, x].
- All, optionally: ``reference`` [z, y, x], the normalised image.

Arrays are sharded along z into at most 64 files each; an inner chunk is one slice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.paths import StorePath
from ddip_ray.io.stores import arrays, staging
from ddip_ray.io.stores.arrays import shard_slices
from ddip_ray.io.stores.schema import (
    ATTRIBUTE_KEY,
    MEASUREMENTS,
    REFERENCE,
    SENSITIVITY_MAPS,
    AcquisitionMetadata,
    ArrayLayout,
    ParallelCT,
    validate,
)

MAX_CHUNK_BYTES = 4 * 2**20


def _inner_chunk(layout: ArrayLayout) -> tuple[int, ...]:
    """The inner chunk of an array: one slice, cut along its first axis where it exceeds 4 MiB."""
    first, *rest = layout.slice_shape
    num_parts = -(-_slice_bytes(layout) // MAX_CHUNK_BYTES)
    return 1, -(-first // min(num_parts, first)), *rest


def _slice_bytes(layout: ArrayLayout) -> int:
    """The bytes of one slice of an array in memory."""
    return math.prod(layout.slice_shape) * np.dtype(layout.dtype).itemsize


@dataclass(frozen=True)
class Acquisition:
    """An open, validated acquisition.

    It holds its path and no open file, so that it pickles and can be sent to any process.
    """

    path: str
    metadata: AcquisitionMetadata
    num_slices: int
    shard_slices: int
    names: tuple[str, ...]

    @property
    def has_reference(self) -> bool:
        """Whether the store holds a reference image."""
        return REFERENCE in self.names

    @property
    def is_complex(self) -> bool:
        """Whether measurements and image are complex."""
        return np.dtype(self.metadata.acquisition.arrays[MEASUREMENTS].dtype).kind == "c"

    @property
    def slice_bytes(self) -> int:
        """The bytes of one slice's measurements in memory."""
        return _slice_bytes(self.metadata.acquisition.arrays[MEASUREMENTS])

    def measurements(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Measurements of slices [start, stop), all by default.

        CT: float32 (z, view, detector), line integrals times `Intensity.measurement_scale`. MRI: complex64
        (z, coil, ky, kx) or (z, coil, readout, sample).
        """
        return self.read(MEASUREMENTS, start, self.num_slices if stop is None else stop)

    def reference(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Normalised reference image (z, y, x) of slices [start, stop), all by default.

        Raises:
            InputError: the acquisition has no reference, as every measured one.
        """
        if not self.has_reference:
            raise InputError(f"{self.path}: has no reference image")
        return self.read(REFERENCE, start, self.num_slices if stop is None else stop)

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Slices [start, stop) of the array ``name``; InputError if a value is NaN or infinite."""
        path = paths.join(self.path, name)
        data = arrays.read_slices(path, start, stop)
        arrays.require_finite(data, path, start, self.metadata.acquisition.arrays[name].axes)
        return data

    def digests(self, start: int, stop: int) -> list[bytes]:
        """SHA-256 digests of the measurements of each slice in [start, stop), without the reference."""
        each = [hashlib.sha256() for _ in range(stop - start)]
        for name in sorted(set(self.names) - {REFERENCE}):
            for first in range(start, stop, self.shard_slices):  # not to hold all slices at once
                own = self.read(name, first, min(first + self.shard_slices, stop))
                for digest, values in zip(each[first - start :], own, strict=False):
                    digest.update(np.ascontiguousarray(values).data)
        return [digest.digest() for digest in each]


def open_acquisition(path: StorePath) -> Acquisition:
    """Open the acquisition at ``path`` and validate everything but the measured numbers.

    Raises:
        InputError: no acquisition at ``path``, or one that is damaged or contradicts itself.
    """
    root = paths.absolute(path)
    attributes = arrays.read_attributes(root)
    if ATTRIBUTE_KEY not in attributes:
        raise InputError(
            f"{path}: a Zarr store, but not an acquisition (no attribute {ATTRIBUTE_KEY})",
            "Make one with `ddip-ray simulate` or `ddip-ray import`",
        )
    raw = attributes[ATTRIBUTE_KEY]
    if isinstance(raw, dict) and raw.get("kind") == "result":
        raise InputError(
            f"{path}: a result, not an acquisition", "Give the acquisition that it was made from"
        )
    metadata = validate(AcquisitionMetadata, raw, str(path))
    layouts = metadata.acquisition.arrays
    there = [name for name in layouts if paths.read_bytes(root, f"{name}/{arrays.ROOT_KEY}") is not None]
    names = [name for name, layout in layouts.items() if name in there or not layout.optional]
    measurements = arrays.open_array(paths.join(root, MEASUREMENTS))
    _check_views(root, metadata, measurements.shape)
    num_slices = int(measurements.shape[0])
    for name in names:
        _check_array(root, name, layouts[name], num_slices)
    stored_shard = int(measurements.chunk_layout.write_chunk.shape[0])
    return Acquisition(root, metadata, num_slices, stored_shard, tuple(names))


def _check_views(root: str, metadata: AcquisitionMetadata, shape: Sequence[int]) -> None:
    acquisition = metadata.acquisition
    if isinstance(acquisition, ParallelCT) and len(shape) == 3 and shape[1] != acquisition.num_views:
        raise InputError(
            f"{root}: {acquisition.num_views} angles in acquisition.angles_deg, "
            f"{shape[1]} views in {MEASUREMENTS}"
        )


def _check_array(root: str, name: str, layout: ArrayLayout, num_slices: int) -> None:
    array, expected = arrays.open_array(paths.join(root, name)), (num_slices, *layout.slice_shape)
    if array.dtype.name != layout.dtype:
        raise InputError(f"{root}: {name} is {array.dtype.name}, expected {layout.dtype}")
    if tuple(array.shape) != expected:
        raise InputError(f"{root}: {name} has shape {tuple(array.shape)}, the metadata says {expected}")


@dataclass
class AcquisitionWriter:
    """A new acquisition, invisible until `commit`.

    As a context manager it commits at the end of the block, or aborts on an error. It pickles, so that other
    processes can write their own shards; only its creator commits.
    """

    staging: staging.Staging
    metadata: AcquisitionMetadata
    num_slices: int
    shard_slices: int
    names: tuple[str, ...]
    _committed: bool = field(default=False, repr=False)

    def write_measurements(self, start: int, data: NDArray[Any]) -> None:
        """Write whole shards of measurements (z, view, detector) beginning at slice ``start``."""
        self.write(MEASUREMENTS, start, data)

    def write_reference(self, start: int, data: NDArray[Any]) -> None:
        """Write whole shards of the normalised reference (z, y, x) beginning at slice ``start``."""
        self.write(REFERENCE, start, data)

    def write(self, name: str, start: int, data: NDArray[Any]) -> None:
        """Write whole shards of the array ``name`` beginning at slice ``start``."""
        if name not in self.names:
            raise ValueError(f"created without {name}")
        axes = self.metadata.acquisition.arrays[name].axes
        arrays.require_finite(data, f"{self.staging.target}/{name}", start, axes)
        arrays.write_shards(paths.join(self.staging.temporary, name), start, data)

    def commit(self) -> Acquisition:
        """Check that every slice was written, publish the store and open it."""
        for name in self.names:
            if missing := arrays.missing_shards(paths.join(self.staging.temporary, name)):
                first = missing[0] * self.shard_slices
                raise RuntimeError(
                    f"{self.staging.target}: {len(missing)} shards of {name} were never written, the first "
                    f"begins at slice {first}"
                )
        attributes = {ATTRIBUTE_KEY: self.metadata.model_dump(mode="json")}
        staging.publish(self.staging, arrays.group_document(self.staging.temporary, attributes, self.names))
        self._committed = True
        return open_acquisition(self.staging.target)

    def abort(self) -> None:
        """Remove what was written; a store that was at the target before stays."""
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
    *,
    with_sensitivity_maps: bool = False,
) -> AcquisitionWriter:
    """Begin a new acquisition at ``path``.

    Args:
        path: Local path, or one in an object store.
        metadata: Geometry, intensity scale, noise, orientation and source.
        num_slices: Number of slices.
        with_reference: Whether a reference image will be written.
        overwrite: Whether to replace an acquisition at ``path``.
        with_sensitivity_maps: Whether sensitivity maps will be written (MRI).

    Raises:
        InputError: something is at ``path`` already, its folder is missing, or the disk is too full.
    """
    wanted = {REFERENCE: with_reference, SENSITIVITY_MAPS: with_sensitivity_maps}
    layouts = {
        name: layout
        for name, layout in metadata.acquisition.arrays.items()
        if wanted.get(name, not layout.optional)
    }
    stage = staging.begin(path, overwrite, is_result=False)
    shard = shard_slices(num_slices)
    with staging.aborting(stage):
        paths.require_free_space(path, num_slices * sum(map(_slice_bytes, layouts.values())))
        for name, layout in layouts.items():
            shape = (num_slices, *layout.slice_shape)
            array_path = paths.join(stage.temporary, name)
            arrays.create_array(
                array_path, shape, shard, _inner_chunk(layout), layout.axes, dtype=layout.dtype
            )
    return AcquisitionWriter(stage, metadata, num_slices, shard, tuple(layouts))
