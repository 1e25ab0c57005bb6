"""The result store: an OME-Zarr 0.5 image that napari, neuroglancer and vizarr open.

Level 0 is float32 [z, y, x], sharded along z. The driver creates it, workers write slabs of whole shards, and
the driver finalises it: coarser levels, metadata, publication. A complex image is float32 [c, z, y, x] with
its magnitude and its phase in radians as channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.paths import StorePath
from ddip_ray.io.stores import arrays, staging
from ddip_ray.io.stores.schema import ATTRIBUTE_KEY, Intensity, Orientation, ResultMetadata, validate

AXES = ("z", "y", "x")
COMPLEX_CHANNELS = ("magnitude", "phase")
COARSEST = 128  # pixels a side: slices of this size need no coarser level
PYRAMID_OVERHEAD = 4 / 3  # 1 + 1/4 + 1/16 + ..., when only y and x are halved


@dataclass(frozen=True)
class Level:
    """One resolution of the image; all triples are (z, y, x).

    ``translation_mm`` is the position of its first voxel's centre relative to that of the finest level, and
    ``factors`` how much coarser it is than the level before.
    """

    name: str
    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    translation_mm: tuple[float, float, float]
    factors: tuple[int, int, int]


def plan_levels(
    shape: tuple[int, int, int], voxel_mm: tuple[float, float, float], coarsest: int = COARSEST
) -> tuple[Level, ...]:
    """The levels of an image: y and x are halved until both are at most ``coarsest`` pixels.

    z is halved with them where this makes voxels more nearly cubic.
    """
    levels = [Level("0", shape, voxel_mm, (0.0, 0.0, 0.0), (1, 1, 1))]
    while max(levels[-1].shape[1:]) > coarsest:
        last = levels[-1]
        z, y, _ = last.voxel_mm
        nearer_cubic = abs(math.log(2 * z / (2 * y))) <= abs(math.log(z / (2 * y)))
        factors = (2 if nearer_cubic and last.shape[0] > 1 else 1, 2, 2)
        levels.append(
            Level(
                str(len(levels)),
                _triple(-(-size // f) for size, f in zip(last.shape, factors, strict=True)),
                _triple(size * f for size, f in zip(last.voxel_mm, factors, strict=True)),
                # the centre of a coarse voxel lies half a fine voxel after that of its first fine one
                _triple(
                    t + (f - 1) * size / 2
                    for t, size, f in zip(last.translation_mm, last.voxel_mm, factors, strict=True)
                ),
                factors,
            )
        )
    return tuple(levels)


def _triple(values: Any) -> Any:
    a, b, c = values
    return a, b, c


@dataclass(frozen=True)
class ResultHandle:
    """A result that is being written, invisible until `finalise`.

    It pickles, so that every worker can write its own slab.
    As a context manager it removes at the end whatever was not finalised.
    """

    staging: staging.Staging
    levels: tuple[Level, ...]
    shard_slices: int
    unit: str
    orientation: Orientation
    is_complex: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (z, y, x) of the volume."""
        return self.levels[0].shape

    def write_slab(self, start: int, slab: NDArray[Any]) -> None:
        """Write whole shards of finite values (z, y, x) from slice ``start``; writing twice is harmless."""
        arrays.require_finite(slab, f"{self.staging.target} (result)", start, AXES)
        arrays.write_shards(paths.join(self.staging.temporary, "0"), start, _as_stored(slab, self.is_complex))

    def store_file(self, name: str, data: bytes) -> None:
        """Add a small file to the result, which becomes visible with it."""
        _write_file(self.staging.temporary, name, data)

    def finalise(self, provenance: Mapping[str, JsonValue], scheduler: Any = None) -> Result:
        """Build the coarser levels, write ``provenance`` and publish the result.

        Each shard of a level is a task, which holds at most three shards in memory. After an exception
        nothing is published: call it again, or `abort`.

        Args:
            provenance: Plain data that is stored with the image.
            scheduler: Where tasks run, as `dask.compute` takes it: None means threads of this process, a
                cluster's ``get`` its workers.

        Raises:
            RuntimeError: slabs are missing.
        """
        metadata = validate(
            ResultMetadata,
            {
                "unit": self.unit,
                "channels": COMPLEX_CHANNELS if self.is_complex else (),
                "orientation": self.orientation,
                "provenance": dict(provenance),
            },
            f"{self.staging.target} (provenance)",
        )
        if missing := arrays.missing_shards(paths.join(self.staging.temporary, "0")):
            raise RuntimeError(
                f"{self.staging.target}: {len(missing)} shards were never written, the first begins at slice "
                f"{missing[0] * self.shard_slices}"
            )
        for fine, coarse in zip(self.levels, self.levels[1:], strict=False):
            self._build_level(fine, coarse, scheduler)
        attributes = {
            "ome": _ome_attributes(paths.name(self.staging.target), self.levels, self.is_complex),
            ATTRIBUTE_KEY: metadata.model_dump(mode="json"),
        }
        names = [level.name for level in self.levels]
        staging.publish(self.staging, arrays.group_document(self.staging.temporary, attributes, names))
        return open_result(self.staging.target)

    def _build_level(self, fine: Level, coarse: Level, scheduler: Any) -> None:
        import dask

        target = paths.join(self.staging.temporary, coarse.name)
        _create_level(target, coarse.shape, self.shard_slices, self.is_complex)
        source = paths.join(self.staging.temporary, fine.name)
        task = dask.delayed(_write_coarse_shard, pure=False)
        starts = range(0, coarse.shape[0], self.shard_slices)
        tasks = [task(source, target, coarse.factors, start, self.shard_slices) for start in starts]
        dask.compute(*tasks, scheduler=scheduler or "threads")

    def abort(self) -> None:
        """Remove what was written; a store that was at the target before stays."""
        staging.abort(self.staging)

    def __enter__(self) -> ResultHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()  # harmless after `finalise`


def create_result(
    path: StorePath,
    shape: tuple[int, int, int],
    voxel_mm: tuple[float, float, float],
    shard_slices: int,
    *,
    overwrite: bool = False,
    unit: str = "",
    orientation: Orientation | None = None,
    coarsest: int = COARSEST,
    is_complex: bool = False,
) -> ResultHandle:
    """Begin a new result at ``path``.

    Args:
        path: Local path, or one in an object store.
        shape: Shape (z, y, x) of the volume.
        voxel_mm: Voxel size (z, y, x) in mm.
        shard_slices: Slices a shard, which is a file; workers write whole shards.
        overwrite: Whether to replace a result at ``path``.
        unit: Unit of the voxel values.
        orientation: Directions of the axes; None means unknown.
        coarsest: Side in pixels at which no coarser level is added.
        is_complex: Whether the image is complex.

    Raises:
        InputError: something is at ``path`` already, its folder is missing, or the disk cannot hold the
            volume and its coarser levels.
    """
    stage = staging.begin(path, overwrite, is_result=True)
    with staging.aborting(stage):
        voxel_bytes = 8 if is_complex else 4
        paths.require_free_space(path, math.ceil(math.prod(shape) * voxel_bytes * PYRAMID_OVERHEAD))
        _create_level(paths.join(stage.temporary, "0"), shape, shard_slices, is_complex)
    levels = plan_levels(shape, voxel_mm, coarsest)
    return ResultHandle(stage, levels, shard_slices, unit, orientation or Orientation(), is_complex)


@dataclass(frozen=True)
class Result:
    """An open result store; ``voxel_mm`` and ``shape`` are (z, y, x) of the finest level."""

    path: str
    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    shard_slices: int
    num_levels: int
    metadata: ResultMetadata

    @property
    def is_complex(self) -> bool:
        """Whether the image is complex."""
        return self.metadata.channels == COMPLEX_CHANNELS

    @property
    def provenance(self) -> dict[str, JsonValue]:
        """How the result was made, as given to `ResultHandle.finalise`."""
        return self.metadata.provenance

    @property
    def acquisition(self) -> dict[str, JsonValue]:
        """Path and metadata of the acquisition that the result was made from; InputError if not recorded."""
        recorded = self.provenance.get("acquisition")
        if not isinstance(recorded, dict):
            raise InputError(f"{self.path}: does not say which acquisition it was made from")
        return recorded

    @property
    def intensity(self) -> Intensity:
        """How the stored values relate to the normalised image; InputError if not recorded."""
        return validate(Intensity, self.acquisition.get("intensity", {}), f"{self.path} (provenance)")

    def volume(self, start: int = 0, stop: int | None = None, *, normalised: bool = False) -> NDArray[Any]:
        """The image of slices [start, stop), float32 or complex64 (z, y, x).

        Args:
            start: First slice.
            stop: The slice after the last; None reads to the end.
            normalised: Whether to return values on the scale of `Acquisition.reference`, on which 0 to 1 is
                the intensity window, instead of the result's own unit.

        Raises:
            InputError: damaged data, or ``normalised`` for a result that does not record its scale.
        """
        values = self.read(start, self.shape[0] if stop is None else stop)
        return normalise_in_place(values, self.intensity) if normalised else values

    def read(self, start: int, stop: int, level: int = 0) -> NDArray[Any]:
        """Slices [start, stop) of a level, float32 or complex64 (z, y, x); level 0 is the finest."""
        stored = arrays.read_slices(paths.join(self.path, str(level)), start, stop)
        return _as_image(stored, self.is_complex)


def normalise_in_place(values: NDArray[Any], intensity: Intensity) -> NDArray[Any]:
    """The normalised values of an image in the unit of ``intensity``; they overwrite ``values``."""
    values -= intensity.offset
    values /= intensity.scale
    return values


def open_result(path: StorePath) -> Result:
    """Open the result at ``path``; InputError when there is no result or it is damaged."""
    root = paths.absolute(path)
    attributes = arrays.read_attributes(root)
    raw = attributes.get(ATTRIBUTE_KEY)
    if not isinstance(raw, dict) or raw.get("kind") != "result":
        raise InputError(
            f"{path}: not a result of ddip-ray", "Give a store written by `ddip-ray reconstruct`"
        )
    metadata = validate(ResultMetadata, raw, str(path))
    try:
        datasets = attributes["ome"]["multiscales"][0]["datasets"]
        scale = datasets[0]["coordinateTransformations"][0]["scale"]
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path}: its OME-Zarr metadata is damaged ({error!r})") from error
    array = arrays.open_array(paths.join(root, "0"))
    shard, (num_slices, *_, ny, nx) = int(array.chunk_layout.write_chunk.shape[0]), array.shape
    shape = int(num_slices), int(ny), int(nx)
    return Result(root, shape, _triple(scale[-3:]), shard, len(datasets), metadata)


def store_file(path: StorePath, name: str, data: bytes) -> None:
    """Add a small file (adapter, figure) to the published result at ``path``."""
    open_result(path)
    _write_file(path, name, data)


def load_file(path: StorePath, name: str) -> bytes:
    """The content of a small file in the result at ``path``; InputError when it is not there."""
    data = paths.read_bytes(path, _checked_name(name))
    if data is None:
        raise InputError(f"{path}: has no file {name}")
    return data


def _write_file(path: StorePath, name: str, data: bytes) -> None:
    paths.write_bytes(path, _checked_name(name), data)


def _checked_name(name: str) -> str:
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or ".." in parts
        or parts[0].isdigit()
        or parts[-1] == arrays.ROOT_KEY
    ):
        raise ValueError(f"{name!r} cannot be a file's name inside a result")
    return "/".join(parts)


def _create_level(path: StorePath, shape: tuple[int, int, int], shard_slices: int, is_complex: bool) -> None:
    chunk_slices = max(n for n in range(1, min(shard_slices, 16) + 1) if shard_slices % n == 0)
    z, *plane = shape
    inner_chunk = (min(shape[1], 256), min(shape[2], 256))
    if is_complex:
        stored, axes = (z, len(COMPLEX_CHANNELS), *plane), ("z", arrays.CHANNEL, "y", "x")
        arrays.create_array(path, stored, shard_slices, (chunk_slices, 1, *inner_chunk), axes)
    else:
        arrays.create_array(path, shape, shard_slices, (chunk_slices, *inner_chunk), AXES)


def _as_stored(image: NDArray[Any], is_complex: bool) -> NDArray[Any]:
    """An image (z, y, x) as it is stored: complex ones as (z, channel, y, x)."""
    return np.stack([np.abs(image), np.angle(image)], axis=1) if is_complex else image


def _as_image(stored: NDArray[Any], is_complex: bool) -> NDArray[Any]:
    if not is_complex:
        return stored
    magnitude, phase = stored[:, 0], stored[:, 1]
    image: NDArray[np.complex64] = (magnitude * np.exp(1j * phase)).astype(np.complex64)
    return image


def _write_coarse_shard(
    source: str, target: str, factors: tuple[int, int, int], start: int, shard_slices: int
) -> None:
    fine = arrays.open_array(source)
    is_complex, num_fine = fine.ndim > len(AXES), fine.shape[0]
    stored = arrays.read_slices(
        source, start * factors[0], min((start + shard_slices) * factors[0], num_fine)
    )
    coarse = block_mean(_as_image(stored, is_complex), factors)
    arrays.write_shards(target, start, _as_stored(coarse, is_complex))


def block_mean(volume: NDArray[Any], factors: tuple[int, int, int]) -> NDArray[Any]:
    """The mean over blocks of ``factors`` (z, y, x); blocks that the border cuts average what they have."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            starts = np.arange(0, volume.shape[axis], factor)
            counts = np.diff(np.append(starts, volume.shape[axis])).astype(np.float32)
            shape = [-1 if i == axis else 1 for i in range(3)]
            volume = np.divide(np.add.reduceat(volume, starts, axis=axis), counts.reshape(shape))
    return volume


def _ome_attributes(name: str, levels: tuple[Level, ...], is_complex: bool) -> dict[str, JsonValue]:
    channel: list[JsonValue] = [1.0] if is_complex else []
    datasets: list[JsonValue] = []
    for level in levels:
        transforms: list[JsonValue] = [{"type": "scale", "scale": [*channel, *level.voxel_mm]}]
        if any(level.translation_mm):
            translation: list[JsonValue] = [*(0.0 for _ in channel), *level.translation_mm]
            transforms.append({"type": "translation", "translation": translation})
        datasets.append({"path": level.name, "coordinateTransformations": transforms})
    axes: list[JsonValue] = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in AXES]
    if is_complex:
        axes.insert(0, {"name": arrays.CHANNEL, "type": "channel"})
    multiscale: dict[str, JsonValue] = {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}
    return {"version": "0.5", "multiscales": [multiscale]}
