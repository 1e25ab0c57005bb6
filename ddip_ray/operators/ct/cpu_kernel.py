"""A matrix-free projector for CPUs, which computes each weight once for a tile of slices.

Memory layout is (y, x, z) and (view, detector, z). A tile of slices is packed into a contiguous buffer, with
zeros around each row, so that the inner loops need no bounds checks, and up to a whole number of vectors, so
that there is no remainder. Both directions are gathers without atomics. Each output is one sum in a fixed
order, whatever the batch and the number of threads.
"""

# ruff: noqa: PLR0917 (compiled kernels take plain arguments, not objects, and not by keyword)

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.numerics.jit import compiled
from ddip_ray.numerics.thread_pool import Task, ranges, run_tasks
from ddip_ray.operators.ct.vector_ops import LANES, multiply_add_pair
from ddip_ray.operators.ct.view_table import Float64, ViewTable

Float = NDArray[Any]  # float32 or float64

_IMAGE_MARGIN = 2  # zeros beside each image row: a clamped pair (i, i + 1) may lie wholly outside
_MAX_TILE = 2 * LANES  # two vectors share a weight; more would push the tile out of the L2 cache


def project(table: ViewTable, image: Float, sinogram: Float, num_threads: int) -> None:
    """Fill ``sinogram`` with the projections of ``image``.

    Weights are computed in float64, sums in the dtype of the arrays.

    Args:
        table: weights whose hat is one pixel wide along the ray's main axis (`joseph_table`).
        image: ``(y, x, z)``, of any strides.
        sinogram: output, ``(view, detector, z)``.
        num_threads: threads that share the views.
    """
    num_views = table.num_views
    flat = np.abs(table.step_y) > np.abs(table.step_x)  # rays nearer to the x axis: walk along columns
    for z0, z1 in _tiles(image.shape[2]):
        lanes = _padded(z1 - z0)
        upright = _pack(image, z0, lanes, _IMAGE_MARGIN, num_threads) if not flat.all() else _empty(image)
        turned = (
            _pack(image.transpose(1, 0, 2), z0, lanes, _IMAGE_MARGIN, num_threads)
            if flat.any()
            else _empty(image)
        )
        tasks: list[Task] = [
            partial(
                _project_views, upright, turned, image.shape[0], image.shape[1], lanes, flat,
                table.offset, table.step_y, table.step_x, table.scale, view, stop, sinogram[:, :, z0:z1],
            )
            for view, stop in ranges(num_views, num_threads)
        ]  # fmt: skip
        run_tasks(tasks, num_threads)


def backproject(table: ViewTable, sinogram: Float, image: Float, num_threads: int) -> None:
    """Fill ``image`` with the weighted sum over the rays near each pixel, the transpose of `project`.

    Args:
        table: weights between pixels and rays.
        sinogram: ``(view, detector, z)``, of any strides.
        image: output, ``(y, x, z)``.
        num_threads: threads that share the rows.
    """
    num_pairs = table.num_tap_pairs
    margin = 2 * int(num_pairs.max())
    for z0, z1 in _tiles(sinogram.shape[2]):
        lanes = _padded(z1 - z0)
        packed = _pack(sinogram, z0, lanes, margin, num_threads)
        tasks: list[Task] = [
            partial(
                _backproject_rows, packed, sinogram.shape[1], margin, lanes, num_pairs, table.offset,
                table.step_y, table.step_x, table.half_width, table.scale, row, stop, image[:, :, z0:z1],
            )
            for row, stop in ranges(image.shape[0], num_threads)
        ]  # fmt: skip
        run_tasks(tasks, num_threads)


def _tiles(num_slices: int) -> list[tuple[int, int]]:
    return [(z, min(z + _MAX_TILE, num_slices)) for z in range(0, num_slices, _MAX_TILE)]


def _padded(num_slices: int) -> int:
    return -(-num_slices // LANES) * LANES


def _empty(like: Float) -> Float:
    return np.empty(0, dtype=like.dtype)


def _pack(source: Float, z0: int, lanes: int, margin: int, num_threads: int) -> Float:
    """Copy slices z0 ... of ``source: (row, column, z)`` to a flat (row, column + 2 margin, lanes) buffer."""
    rows, columns, num_slices = source.shape
    packed = np.empty(rows * (columns + 2 * margin) * lanes, dtype=source.dtype)
    part = source[:, :, z0 : min(z0 + lanes, num_slices)]
    tasks: list[Task] = [
        partial(_pack_rows, part, lanes, margin, row, stop, packed) for row, stop in ranges(rows, num_threads)
    ]
    run_tasks(tasks, num_threads)
    return packed


@compiled
def _pack_rows(source: Float, lanes: int, margin: int, row0: int, row1: int, packed: Float) -> None:
    columns, num_slices = source.shape[1], source.shape[2]
    for row in range(row0, row1):
        begin = row * (columns + 2 * margin) * lanes
        end = begin + (columns + 2 * margin) * lanes
        packed[begin : begin + margin * lanes] = 0.0
        packed[end - margin * lanes : end] = 0.0
        for column in range(columns):
            start = begin + (margin + column) * lanes
            for z in range(num_slices):
                packed[start + z] = source[row, column, z]
            for z in range(num_slices, lanes):
                packed[start + z] = 0.0


@compiled
def _project_views(
    upright: Float,
    turned: Float,
    ny: int,
    nx: int,
    lanes: int,
    flat: NDArray[np.bool_],
    offset: Float64,
    step_y: Float64,
    step_x: Float64,
    scale: Float64,
    view0: int,
    view1: int,
    sinogram: Float,
) -> None:
    num_detectors, num_slices = sinogram.shape[1], sinogram.shape[2]
    acc = np.empty(num_detectors * lanes, dtype=sinogram.dtype)
    index = np.empty(num_detectors, dtype=np.int64)
    weight0 = np.empty(num_detectors, dtype=sinogram.dtype)
    weight1 = np.empty(num_detectors, dtype=sinogram.dtype)
    for view in range(view0, view1):
        acc[:] = 0.0
        if flat[view]:
            _project_view(
                turned, nx, ny, lanes, offset[view], step_x[view], step_y[view], scale[view],
                num_detectors, acc, index, weight0, weight1,
            )  # fmt: skip
        else:
            _project_view(
                upright, ny, nx, lanes, offset[view], step_y[view], step_x[view], scale[view],
                num_detectors, acc, index, weight0, weight1,
            )  # fmt: skip
        for k in range(num_detectors):
            for z in range(num_slices):
                sinogram[view, k, z] = acc[k * lanes + z]


@compiled
def _project_view(
    packed: Float,
    rows: int,
    columns: int,
    lanes: int,
    offset: float,
    step_row: float,
    step_column: float,
    scale: float,
    num_detectors: int,
    acc: Float,
    index: NDArray[np.int64],
    weight0: Float,
    weight1: Float,
) -> None:
    """Add to each ray the two pixels of each row that it passes between; |step_column| >= |step_row|."""
    width = columns + 2 * _IMAGE_MARGIN
    per_column = 1.0 / step_column
    for row in range(rows):
        first = offset + step_row * row
        # Rays that touch this row: those between the projections of columns −1 and n.
        a, b = first - step_column, first + step_column * columns
        k0 = max(0, int(max(0.0, math.floor(min(a, b)))))
        k1 = int(min(float(num_detectors), math.ceil(max(a, b)) + 1.0))
        # Counted from zero: else numba allows for negative indices, and the loop is not vectorised.
        for i in range(k1 - k0):
            position = (k0 + i - first) * per_column
            left = min(max(np.floor(position), -2.0), float(columns))
            fraction = position - left
            index[i] = (row * width + _IMAGE_MARGIN + int(left)) * lanes
            weight0[i] = scale * (1.0 - fraction)
            weight1[i] = scale * fraction
        for i in range(k1 - k0):
            for lane in range(0, lanes, LANES):
                multiply_add_pair(
                    acc, (k0 + i) * lanes + lane, packed, index[i] + lane, weight0[i], weight1[i], lanes
                )


@compiled
def _backproject_rows(
    packed: Float,
    num_detectors: int,
    margin: int,
    lanes: int,
    num_pairs: NDArray[np.int64],
    offset: Float64,
    step_y: Float64,
    step_x: Float64,
    half_width: Float64,
    scale: Float64,
    row0: int,
    row1: int,
    image: Float,
) -> None:
    """Sum at each pixel of the rows the rays under its hat, two neighbours at a time."""
    nx, num_slices = image.shape[1], image.shape[2]
    acc = np.empty(nx * lanes, dtype=image.dtype)
    index = np.empty(nx, dtype=np.int64)
    weight0 = np.empty(nx, dtype=image.dtype)
    weight1 = np.empty(nx, dtype=image.dtype)
    for row in range(row0, row1):
        acc[:] = 0.0
        for view in range(len(offset)):
            first = offset[view] + step_y[view] * row
            begin = view * (num_detectors + 2 * margin) + margin
            # The hat is peak − slope · distance, never below zero.
            peak, slope = scale[view], scale[view] / half_width[view]
            for pair in range(num_pairs[view]):
                for ix in range(nx):
                    center = first + step_x[view] * ix
                    k = np.floor(center - half_width[view]) + 1.0 + 2.0 * pair
                    k = min(max(k, -float(margin)), float(num_detectors))  # outside lie only zeros
                    distance = center - k
                    index[ix] = (begin + int(k)) * lanes
                    weight0[ix] = max(0.0, peak - slope * abs(distance))
                    weight1[ix] = max(0.0, peak - slope * abs(distance - 1.0))
                for ix in range(nx):
                    for lane in range(0, lanes, LANES):
                        multiply_add_pair(
                            acc, ix * lanes + lane, packed, index[ix] + lane, weight0[ix], weight1[ix], lanes
                        )
        for ix in range(nx):
            for z in range(num_slices):
                image[row, ix, z] = acc[ix * lanes + z]
