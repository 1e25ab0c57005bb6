"""OME-Zarr images (0.4 and 0.5) and plain Zarr arrays, local or remote."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.images.numpy import ASSUMED_VOXEL
from ddip_ray.io.images.volume import ImageVolume, require_real_volume
from ddip_ray.io.lengths import mm_per
from ddip_ray.io.paths import StorePath
from ddip_ray.io.stores.schema import ATTRIBUTE_KEY, Orientation, ResultMetadata, Source, validate


def read_zarr(path: StorePath, volume_index: int) -> ImageVolume:
    """The finest level of an OME-Zarr image, or a plain Zarr array (z, y, x).

    ``volume_index`` counts through the axes before z (time, channel).
    """
    import dask.array as da
    import zarr
    from zarr.errors import NodeNotFoundError

    store = paths.zarr_store(path)
    try:
        node = zarr.open(store, mode="r")
    except (NodeNotFoundError, FileNotFoundError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as Zarr ({error})") from error
    source = Source(name=paths.name(path), format="Zarr", history=(ASSUMED_VOXEL,))
    if isinstance(node, zarr.Array):
        require_real_volume(str(path), node.shape, node.dtype)
        return ImageVolume(da.from_zarr(node), (1.0, 1.0, 1.0), Orientation(), source)
    attributes: dict[str, Any] = node.attrs.asdict()
    multiscale, version = _multiscale(path, attributes)
    try:
        dataset = multiscale["datasets"][0]
        axes = multiscale["axes"]
        level: Any = node[dataset["path"]]
        scales = [*dataset["coordinateTransformations"], *multiscale.get("coordinateTransformations", [])]
        scale = np.prod([t["scale"] for t in scales if t["type"] == "scale"], axis=0)
        names = [axis["name"] for axis in axes]
        units = {axis["name"]: str(axis.get("unit", "")) for axis in axes}
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path}: its OME-Zarr metadata is damaged ({error!r})") from error
    if names[-3:] != ["z", "y", "x"] or len(names) != level.ndim:
        raise InputError(f"{path}: axes {names}, expected one name an axis, z, y, x last")
    array, history = _choose_volume(path, da.from_zarr(level), volume_index)
    require_real_volume(str(path), array.shape, array.dtype)
    factors = [mm_per(units[axis]) for axis in "zyx"]
    if None in factors:
        history.append("unit of length not in the file, mm assumed")
    z, y, x = (float(s) * (f or 1.0) for s, f in zip(scale[-3:], factors, strict=True))
    source = Source(name=paths.name(path), format=f"OME-Zarr {version}", history=tuple(history))
    orientation, unit = Orientation(), ""
    if ATTRIBUTE_KEY in attributes:
        ours = validate(ResultMetadata, attributes[ATTRIBUTE_KEY], str(path))
        orientation, unit = ours.orientation, ours.unit
    return ImageVolume(array, (z, y, x), orientation, source, unit)


def _multiscale(path: StorePath, attributes: dict[str, Any]) -> tuple[dict[str, Any], str]:
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, dict) else None
    if isinstance(multiscales, list) and multiscales and isinstance(multiscales[0], dict):
        return multiscales[0], str(ome.get("version") or multiscales[0].get("version") or "0.4")
    if "acquisition" in attributes.get(ATTRIBUTE_KEY, {}):
        raise InputError(f"{path}: an acquisition, not an image", "Give it to `ddip-ray reconstruct`")
    raise InputError(f"{path}: a Zarr group without OME-Zarr multiscales", "Give the path of one array in it")


def _choose_volume(path: StorePath, array: Any, volume_index: int) -> tuple[Any, list[str]]:
    others = array.shape[:-3]
    num_volumes = int(np.prod(others)) if others else 1
    if not 0 <= volume_index < num_volumes:
        raise InputError(f"{path}: no volume {volume_index}, it has {num_volumes}")
    index = np.unravel_index(volume_index, others) if others else ()
    note = [f"volume {volume_index} of {num_volumes}"] if num_volumes > 1 else []
    return array[tuple(int(i) for i in index)], note
