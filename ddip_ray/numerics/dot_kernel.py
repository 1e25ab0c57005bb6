"""Compiled inner products of real slices on a CPU, in one pass over memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.numerics.jit import compiled
from ddip_ray.numerics.thread_pool import Task, ranges, run_tasks

Float = NDArray[Any]  # float32 or float64


def dot(a: Float, b: Float, num_threads: int) -> NDArray[np.float64]:
    """Return Σ a b of each slice, ``(z,)`` float64.

    It is summed in float64 along x, then along y, so that the order does not depend on memory layout, on
    other slices or on threads.

    Args:
        a: ``(z, y, x)``, of any strides.
        b: the same shape.
        num_threads: threads that share the rows.
    """
    rows = np.empty(a.shape[:2], dtype=np.float64)
    slice_innermost = a.strides[0] <= a.strides[2] and b.strides[0] <= b.strides[2]
    row_dots = _row_dots_across_slices if slice_innermost else _row_dots_slice_by_slice
    tasks: list[Task] = [
        partial(row_dots, a, b, start, stop, rows) for start, stop in ranges(a.shape[1], num_threads)
    ]
    run_tasks(tasks, num_threads)
    return _sum_rows(rows)


@compiled
def _row_dots_across_slices(a: Float, b: Float, row0: int, row1: int, rows: NDArray[np.float64]) -> None:
    num_slices, _, nx = a.shape
    total = np.empty(num_slices, dtype=np.float64)
    for row in range(row0, row1):
        total[:] = 0.0
        for ix in range(nx):
            for z in range(num_slices):
                total[z] += np.float64(a[z, row, ix]) * np.float64(b[z, row, ix])
        rows[:, row] = total


@compiled
def _row_dots_slice_by_slice(a: Float, b: Float, row0: int, row1: int, rows: NDArray[np.float64]) -> None:
    num_slices, _, nx = a.shape
    for z in range(num_slices):
        for row in range(row0, row1):
            total = 0.0
            for ix in range(nx):
                total += np.float64(a[z, row, ix]) * np.float64(b[z, row, ix])
            rows[z, row] = total


@compiled
def _sum_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.zeros(rows.shape[0], dtype=np.float64)
    for z in range(rows.shape[0]):
        for row in range(rows.shape[1]):
            result[z] += rows[z, row]
    return result
