"""Results and references as normalised volumes, and the acquisition that a result was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.arrays import read_attributes
from ddip_ray.io.stores.result import Result, normalise_in_place, open_result
from ddip_ray.io.stores.schema import ATTRIBUTE_KEY, Intensity

Volume = NDArray[np.float32]
Image = NDArray[Any]  # float32 or complex64


def find_acquisition(result: Result) -> Acquisition | None:
    """The acquisition that a result was made from, where it was or beside the result, or None."""
    recorded = str(result.acquisition.get("path", ""))
    name = recorded.rsplit("/", 1)[-1]
    beside = f"{result.path.rsplit('/', 1)[0]}/{name}"
    for path in (recorded, beside):
        if name and paths.exists(path):
            return open_acquisition(path)
    return None


def read_result(result: Result, intensity: Intensity) -> Volume:
    """The whole volume (z, y, x), normalised by ``intensity``; the magnitude of a complex image."""
    return magnitude(read_image(result, intensity))


def magnitude(volume: Image) -> Volume:
    """The magnitude of a complex image; a real image is returned as it is."""
    return np.abs(volume) if np.iscomplexobj(volume) else volume


def read_image(result: Result, intensity: Intensity) -> Image:
    """The whole volume (z, y, x), normalised by ``intensity``, float32 or complex64."""
    return normalise_in_place(result.volume(), intensity)


def read_reference(path: str, intensity: Intensity, unit: str) -> Volume:
    """The normalised reference at ``path``: an acquisition's own, or another result in the same unit."""
    raw = read_attributes(path).get(ATTRIBUTE_KEY)
    if not (isinstance(raw, dict) and raw.get("kind") == "result"):
        return read_own_reference(open_acquisition(path))
    other = open_result(path)
    if other.metadata.unit != unit:
        raise InputError(
            f"{path}: values in {other.metadata.unit or 'no unit'}, the result's in {unit or 'no unit'}"
        )
    return read_result(other, intensity)


def require_shape(reference: Volume, path: str, shape: tuple[int, ...]) -> None:
    """InputError unless the reference from ``path`` has the ``shape`` of what is scored."""
    if reference.shape != shape:
        raise InputError(
            f"{path}: shape {reference.shape} (z, y, x), the result has {shape}",
            "Compare volumes of the same object on the same grid",
        )


def read_own_reference(acquisition: Acquisition) -> Volume:
    """The whole reference (z, y, x) of a simulated acquisition; the magnitude of a complex one.

    Raises:
        InputError: the acquisition has no reference.
    """
    if not acquisition.has_reference:
        raise InputError(
            f"{acquisition.path}: measured, so there is no reference in it",
            "Name one: `reference`, for example the reconstruction from all views",
        )
    return magnitude(acquisition.reference())


def default_output(store: str, suffix: str) -> str:
    """The default name of an output beside ``store``: ``vol-d3ip.zarr`` for ``vol.zarr`` and ``d3ip``."""
    path = store.rstrip("/")
    stem = path.removesuffix(".zarr").removesuffix(".ome")
    return f"{stem}-{suffix}.zarr" if Path(stem).name else f"{path}-{suffix}.zarr"
