"""A summary of a store as plain data, for `ddip-ray info` and its JSON output."""

from __future__ import annotations

import numpy as np
from pydantic import JsonValue

from ddip_ray.io import paths
from ddip_ray.io.paths import StorePath
from ddip_ray.io.stores import arrays
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.result import Result, open_result
from ddip_ray.io.stores.schema import (
    ATTRIBUTE_KEY,
    MEASUREMENTS,
    SAMPLING_MASK,
    SENSITIVITY_MAPS,
    CartesianMRI,
    NonCartesianMRI,
    ParallelCT,
)


def summarize(path: StorePath) -> dict[str, JsonValue]:
    """Plain facts about the acquisition or result at ``path``; InputError when it is neither."""
    raw = arrays.read_attributes(path).get(ATTRIBUTE_KEY)
    if isinstance(raw, dict) and raw.get("kind") == "result":
        return _summarize_result(open_result(path))
    return _summarize_acquisition(open_acquisition(path))


def _summarize_acquisition(store: Acquisition) -> dict[str, JsonValue]:
    metadata = store.metadata
    acquisition = metadata.acquisition
    return {
        "path": store.path,
        "store": "acquisition",
        "kind": acquisition.kind,
        "measurements_shape": [store.num_slices, *acquisition.measurement_shape],
        "measurements_axes": list(acquisition.arrays[MEASUREMENTS].axes),
        "image_shape": [store.num_slices, *acquisition.image_shape],
        "voxel_mm": list(acquisition.voxel_mm),
        **(_ct(acquisition) if isinstance(acquisition, ParallelCT) else _mri(store, acquisition)),
        "has_reference": store.has_reference,
        "intensity": metadata.intensity.model_dump(mode="json"),
        "noise": metadata.noise.model_dump(mode="json"),
        "orientation": metadata.orientation.model_dump(mode="json"),
        "source": metadata.source.model_dump(mode="json"),
        **_sharding(store.num_slices, store.shard_slices),
        "bytes_on_disk": paths.size_bytes(store.path),
    }


def _ct(acquisition: ParallelCT) -> dict[str, JsonValue]:
    angles = sorted(acquisition.angles_deg)
    return {
        "num_views": acquisition.num_views,
        "angular_range_deg": [angles[0], angles[-1]],
        "num_detectors": acquisition.num_detectors,
        "detector_spacing_mm": acquisition.detector_spacing_mm,
        "rotation_center": acquisition.rotation_center,
    }


def _mri(store: Acquisition, acquisition: CartesianMRI | NonCartesianMRI) -> dict[str, JsonValue]:
    if isinstance(acquisition, CartesianMRI):
        samples = np.mean([store.read(SAMPLING_MASK, z, z + 1).sum() for z in range(store.num_slices)])
    else:
        samples = np.float64(acquisition.num_readouts * acquisition.num_samples)
    return {
        "num_coils": acquisition.num_coils,
        "sampling": acquisition.sampling.model_dump(mode="json"),
        "true_acceleration": float(np.prod(acquisition.image_shape) / samples),
        "has_sensitivity_maps": SENSITIVITY_MAPS in store.names,
    }


def _summarize_result(store: Result) -> dict[str, JsonValue]:
    return {
        "path": store.path,
        "store": "result",
        "kind": store.metadata.kind,
        "image_shape": list(store.shape),
        "voxel_mm": list(store.voxel_mm),
        "num_levels": store.num_levels,
        "unit": store.metadata.unit,
        "orientation": store.metadata.orientation.model_dump(mode="json"),
        "provenance": store.provenance,
        **_sharding(store.shape[0], store.shard_slices),
        "bytes_on_disk": paths.size_bytes(store.path),
    }


def _sharding(num_slices: int, shard_slices: int) -> dict[str, JsonValue]:
    return {"shard_slices": shard_slices, "num_shards": -(-num_slices // shard_slices)}
