"""Measured projections of any accepted format as line integrals, computed when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.paths import StorePath
from ddip_ray.io.projections.angles import parse_angles
from ddip_ray.io.projections.open import read_projections
from ddip_ray.io.projections.raw import RawProjections
from ddip_ray.io.stores.schema import Source

# Pixels with less light than this are noise; clipping them ends line integrals at 9.2.
MIN_TRANSMISSION = 1e-4


@dataclass(frozen=True)
class ProjectionData:
    """Line integrals that have not been read yet.

    ``line_integrals`` is a lazy dask array, float32 (z, view, detector), dimensionless; ``angles_deg``
    (view,); ``pixel_mm`` the side of a detector pixel, None when unknown.
    """

    line_integrals: Any
    angles_deg: tuple[float, ...]
    pixel_mm: float | None
    source: Source


def open_projections(
    path: StorePath,
    *,
    angles_deg: str | Sequence[float] | None = None,
    is_transmission: bool | None = None,
    every_nth_view: int = 1,
    views: Sequence[int] | None = None,
    rows: tuple[int, int] | None = None,
    air_rows: tuple[int, int] | None = None,
    repair: bool = False,
    pixel_mm: float | None = None,
    key: str | None = None,
) -> ProjectionData:
    """Open projections (view, row, column) and turn them into line integrals (z = row, view, detector).

    Every selected pixel is read once, to count the bad ones; the line integrals themselves stay lazy.

    Args:
        path: A local file of any accepted format.
        angles_deg: Projection angles in degrees, or text for `parse_angles`; None takes the file's.
        is_transmission: Whether the file holds transmission I/I0 (True) or line integrals (False); None is
            for files that say so themselves.
        every_nth_view: Keep every n-th view, beginning with the first.
        views: Numbers of the views to keep, instead of ``every_nth_view``.
        rows: Detector rows [start, stop) to keep; None keeps all.
        air_rows: Detector rows [start, stop) that see nothing but air: their median in each view becomes
            zero.
        repair: Whether NaN and infinite pixels are replaced by the median of their nearest finite neighbours
            in the detector row.
        pixel_mm: Side of a detector pixel in mm; None takes the file's.
        key: Which array of an .npz; None takes the one with a known name.

    Raises:
        InputError: an unreadable file, angles that do not match, a selection outside the data, or NaN without
            ``repair``.
    """
    local = paths.local_path(path) if not paths.is_remote(path) else None
    if local is None:
        raise InputError(f"{path}: projections are read from local files only", "Copy the file here first")
    raw = read_projections(local, key)
    where = str(path)
    angles = _angles(where, raw, angles_deg)
    chosen = _chosen_views(where, raw.data.shape[0], every_nth_view, views)
    start, stop = _checked_range(where, "rows", rows, raw.data.shape[1])
    transmission = raw.is_transmission if is_transmission is None else is_transmission
    if transmission is None:
        raise InputError(
            f"{path}: the file does not say whether it holds transmission (I/I0) or line integrals",
            "Say which: `is_transmission`",
        )
    if raw.flat is not None and not transmission:
        raise InputError(f"{path}: has flat frames, so it holds counts and not line integrals")
    values = _flat_corrected(raw, chosen, start, stop)
    values, history = _without_bad_pixels(where, values, chosen, start, repair=repair)
    if transmission:
        values, notes = _minus_log(values)
        history += notes
    if air_rows is not None:
        air_start, air_stop = _checked_range(where, "air_rows", air_rows, raw.data.shape[1])
        air = _flat_corrected(raw, chosen, air_start, air_stop).compute(scheduler="threads")
        values = values - _air_level(where, air, transmission)
        history.append(f"median of rows {air_start} to {air_stop} of each view set to zero")
    if len(chosen) < raw.data.shape[0]:
        history.append(f"{len(chosen)} of {raw.data.shape[0]} views")
    if rows is not None:
        history.append(f"rows {start} to {stop} of {raw.data.shape[1]}")
    source = Source(name=local.name, format=raw.format, history=(*raw.history, *history))
    chosen_angles = tuple(float(angles[view]) for view in chosen)
    return ProjectionData(values, chosen_angles, pixel_mm or raw.pixel_mm, source)


def _angles(where: str, raw: RawProjections, given: str | Sequence[float] | None) -> NDArray[np.float64]:
    num_views = raw.data.shape[0]
    if isinstance(given, str):
        return parse_angles(given, num_views)
    angles = raw.angles_deg if given is None else np.asarray(given, dtype=np.float64)
    if angles is None:
        raise InputError(f"{where}: no angles in the file", "Give them: `angles_deg`, for example 0:180")
    if len(angles) != num_views:
        raise InputError(f"{where}: {len(angles)} angles, {num_views} views")
    return angles


def _chosen_views(where: str, num_views: int, every_nth: int, views: Sequence[int] | None) -> list[int]:
    if every_nth < 1:
        raise InputError(f"`every_nth_view`: found {every_nth}, expected 1 or more")
    if views is None:
        return list(range(0, num_views, every_nth))
    if every_nth != 1:
        raise InputError("`every_nth_view` and `views` are both given", "Give one of them")
    outside = [view for view in views if not 0 <= view < num_views]
    if outside or not views:
        raise InputError(f"{where}: views {outside or 'none'} chosen, it has 0 to {num_views - 1}")
    return list(views)


def _checked_range(where: str, name: str, given: tuple[int, int] | None, size: int) -> tuple[int, int]:
    start, stop = given or (0, size)
    if not 0 <= start < stop <= size:
        raise InputError(f"{where}: `{name}` {start} to {stop}, the detector has rows 0 to {size}")
    return start, stop


def _flat_corrected(raw: RawProjections, views: list[int], start: int, stop: int) -> Any:
    """Lazy float32 (row, view, column); NaN where the flat frame is not brighter than the dark one."""
    import dask.array as da

    all_views = views == list(range(raw.data.shape[0]))
    data = (raw.data if all_views else raw.data[views])[:, start:stop].transpose(1, 0, 2).astype(np.float32)
    if raw.flat is None:
        return data
    dark = np.zeros_like(raw.flat) if raw.dark is None else raw.dark
    light = (raw.flat - dark)[start:stop]
    gain = np.divide(1.0, light, out=np.full_like(light, np.nan), where=light > 0)
    chunks = (data.chunks[0], data.chunks[2])
    offsets = da.from_array(dark[start:stop].astype(np.float32), chunks=chunks, name=False)[:, None]
    gains = da.from_array(gain.astype(np.float32), chunks=chunks, name=False)[:, None]
    return (data - offsets) * gains


def _without_bad_pixels(
    where: str, values: Any, views: list[int], first_row: int, *, repair: bool
) -> tuple[Any, list[str]]:
    """The values, repaired if some are not finite, and a line of history about it."""
    import dask.array as da

    bad = ~da.isfinite(values)
    num_bad = int(bad.sum().compute(scheduler="threads"))
    if num_bad == 0:
        return values, []
    if repair:
        note = f"{num_bad} NaN or infinite pixels replaced by their neighbours' median"
        return values.map_blocks(repair_rows, dtype=np.float32), [note]
    flat_index = int(bad.ravel().argmax().compute(scheduler="threads"))
    row, view, column = (int(i) for i in np.unravel_index(flat_index, values.shape))
    raise InputError(
        f"{where}: {num_bad} of {values.size} pixels are NaN or infinite (or had no light), the first at "
        f"view {views[view]}, row {row + first_row}, column {column}",
        "Replace them by their neighbours: `repair`",
    )


def _minus_log(transmission: Any) -> tuple[Any, list[str]]:
    """Line integrals of a transmission, and a line of history if pixels were too dark."""
    import dask.array as da

    num_low = int((transmission < MIN_TRANSMISSION).sum().compute(scheduler="threads"))
    note = f"{num_low} of {transmission.size} pixels below transmission {MIN_TRANSMISSION:g} clipped"
    return -da.log(da.maximum(transmission, np.float32(MIN_TRANSMISSION))), [note] if num_low else []


def _air_level(where: str, air: NDArray[np.float32], transmission: bool) -> NDArray[np.float32]:
    """The line integral (1, view, 1) of air in each view, from air rows (row, view, column)."""
    level = np.nanmedian(air, axis=(0, 2), keepdims=True)
    if not np.isfinite(level).all() or (transmission and (level <= 0).any()):
        raise InputError(
            f"{where}: `air_rows` hold no light in some view", "Choose rows that miss the object"
        )
    return (-np.log(level) if transmission else level).astype(np.float32)


def repair_rows(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace values that are not finite by the median of the nearest finite ones along the last axis.

    Only the pixel's own detector row is used, so the result does not depend on how rows are split into
    blocks.
    """
    finite = np.isfinite(block)
    repaired = block.copy()
    for index in np.argwhere(~finite):
        line, column = tuple(index[:-1]), int(index[-1])
        sound = np.flatnonzero(finite[line])
        if len(sound) == 0:
            raise InputError(
                "a whole detector row is NaN in a view and cannot be repaired", "Leave the row out"
            )
        distances = np.abs(sound - column)
        # up to one pixel farther than the nearest: both sides of a lone dead pixel, two pixels deep
        near = sound[distances <= distances.min() + 1]
        repaired[(*line, column)] = np.median(block[line][near])
    return repaired
