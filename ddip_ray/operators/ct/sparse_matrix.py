"""The projector as torch.sparse CSR matrices, for devices without our CPU kernel.

Rows of the matrix are rays (view-major), columns are pixels (row-major). Matrices are built on the device
from a ``ViewTable``. They are kept whole with their transpose (``WholeMatrix``) or, if they would not fit,
built for a block of views, applied and dropped (``StreamedMatrix``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddip_ray.operators.ct.view_table import ViewTable

_BUILD_BYTES_PER_TAP = 64  # float64 and int64 temporaries and the sort, while a block is built


@dataclass(frozen=True)
class MatrixShape:
    """Image and detector size of a matrix, and dtype and device of its weights."""

    ny: int
    nx: int
    num_detectors: int
    dtype: torch.dtype
    device: torch.device

    @property
    def num_pixels(self) -> int:
        """Number of columns."""
        return self.ny * self.nx


def matrix_bytes(table: ViewTable, shape: MatrixShape) -> int:
    """Return an upper bound of the bytes of the whole CSR matrix and its transpose."""
    num_weights = shape.num_pixels * float(np.ceil(2 * table.half_width).sum())
    item = torch.empty((), dtype=shape.dtype).element_size()
    index = 4 if num_weights < 2**31 else 8
    num_row_starts = table.num_views * shape.num_detectors + shape.num_pixels + 2
    return int(2 * num_weights * (item + index) + num_row_starts * index)


class WholeMatrix:
    """The CSR matrix of all views and its transpose, both kept.

    Args:
        table: weights between pixels and rays.
        shape: size, dtype and device of the matrix.
        build_bytes: bytes of temporaries while it is built.
    """

    def __init__(self, table: ViewTable, shape: MatrixShape, build_bytes: int) -> None:
        self._backward = _concatenate(
            [
                _weights(table, shape, row0, row1).by_pixel()
                for row0, row1 in _blocks(shape.ny, table, shape.nx, build_bytes)
            ]
        )
        self._forward = _concatenate(
            [
                _weights(table.views(v0, v1), shape).by_ray()
                for v0, v1 in _view_blocks(table, shape, build_bytes)
            ]
        )

    def project(self, image: Tensor) -> Tensor:
        """Return the sinogram (ray, z) of ``image: (pixel, z)``."""
        return self._forward @ image

    def backproject(self, sinogram: Tensor) -> Tensor:
        """Return the image (pixel, z) of ``sinogram: (ray, z)``."""
        return self._backward @ sinogram


class StreamedMatrix:
    """The CSR matrix of one block of views at a time, built anew at every application.

    Args:
        table: weights between pixels and rays.
        shape: size, dtype and device of the matrix.
        build_bytes: bytes of temporaries while a block is built.
    """

    def __init__(self, table: ViewTable, shape: MatrixShape, build_bytes: int) -> None:
        self._table = table
        self._shape = shape
        self._blocks = _view_blocks(table, shape, build_bytes)

    def _tables(self) -> Iterator[tuple[ViewTable, slice]]:
        for view0, view1 in self._blocks:
            rays = slice(view0 * self._shape.num_detectors, view1 * self._shape.num_detectors)
            yield self._table.views(view0, view1), rays

    def project(self, image: Tensor) -> Tensor:
        """Return the sinogram (ray, z) of ``image: (pixel, z)``."""
        parts = [_weights(table, self._shape).by_ray() @ image for table, _ in self._tables()]
        return torch.cat(parts)

    def backproject(self, sinogram: Tensor) -> Tensor:
        """Return the image (pixel, z) of ``sinogram: (ray, z)``."""
        image = sinogram.new_zeros(self._shape.num_pixels, sinogram.shape[1])
        for table, rays in self._tables():
            image += _weights(table, self._shape).by_pixel() @ sinogram[rays]
        return image


@dataclass(frozen=True)
class _Weights:
    """The nonzero weights of a block, ordered by pixel, then ray."""

    pixel: Tensor  # (n,) int64, counted from the block's first pixel
    ray: Tensor  # (n,) int64, counted from the block's first view
    value: Tensor  # (n,)
    num_pixels: int
    num_rays: int

    def by_pixel(self) -> Tensor:
        """Return the CSR matrix (pixel, ray)."""
        return _csr(self.pixel, self.ray, self.value, (self.num_pixels, self.num_rays))

    def by_ray(self) -> Tensor:
        """Return the CSR matrix (ray, pixel)."""
        ray, order = torch.sort(self.ray, stable=True)
        return _csr(ray, self.pixel[order], self.value[order], (self.num_rays, self.num_pixels))


def _weights(table: ViewTable, shape: MatrixShape, row0: int = 0, row1: int | None = None) -> _Weights:
    """Return the weights between the image rows row0 ... row1 − 1 and all views of the table."""
    row1 = shape.ny if row1 is None else row1
    num_taps = int(np.ceil(2 * table.half_width).max())

    def on_device(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
        return torch.as_tensor(values, device=shape.device)[:, None]

    iy = torch.arange(row0, row1, device=shape.device)[:, None, None, None]
    ix = torch.arange(shape.nx, device=shape.device)[None, :, None, None]
    view = torch.arange(table.num_views, device=shape.device)[:, None]
    half_width = on_device(table.half_width)
    center = on_device(table.offset) + on_device(table.step_y) * iy + on_device(table.step_x) * ix
    column = torch.floor(center - half_width) + 1 + torch.arange(num_taps, device=shape.device)
    value = on_device(table.scale) * (1 - (column - center).abs() / half_width)  # (y, x, view, tap)

    nonzero = (value > 0) & (column >= 0) & (column < shape.num_detectors)
    pixel = ((iy - row0) * shape.nx + ix).expand_as(value)[nonzero]
    ray = (column.to(torch.int64) + view * shape.num_detectors)[nonzero]
    num_rays = table.num_views * shape.num_detectors
    return _Weights(pixel, ray, value[nonzero].to(shape.dtype), (row1 - row0) * shape.nx, num_rays)


def _csr(row: Tensor, column: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
    starts = torch.zeros(size[0] + 1, dtype=torch.int64, device=row.device)
    starts[1:] = torch.cumsum(torch.bincount(row, minlength=size[0]), dim=0)
    return _make_csr(starts, column, value, size)


def _concatenate(blocks: list[Tensor]) -> Tensor:
    """Return CSR matrices of equal width stacked into one."""
    starts = [blocks[0].crow_indices()[:1].to(torch.int64)]
    for block in blocks:
        starts.append(starts[-1][-1] + block.crow_indices()[1:].to(torch.int64))
    columns = torch.cat([block.col_indices() for block in blocks])
    values = torch.cat([block.values() for block in blocks])
    size = (sum(block.shape[0] for block in blocks), blocks[0].shape[1])
    return _make_csr(torch.cat(starts), columns, values, size)


def _make_csr(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    # int32 indices are a third less memory to read, and measurably faster.
    index = torch.int32 if max(values.numel(), *size) < 2**31 else torch.int64
    with warnings.catch_warnings():  # torch calls its CSR layout beta, once per process
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta", category=UserWarning
        )
        return torch.sparse_csr_tensor(
            starts.to(index), columns.to(index), values, size=size, check_invariants=False
        )


def _view_blocks(table: ViewTable, shape: MatrixShape, build_bytes: int) -> list[tuple[int, int]]:
    """Return blocks of views (start, stop) to build together within ``build_bytes``, one or more each."""
    num_taps = float(np.ceil(2 * table.half_width).max())
    size = max(1, int(build_bytes / (shape.num_pixels * num_taps * _BUILD_BYTES_PER_TAP)))
    return [(v, min(v + size, table.num_views)) for v in range(0, table.num_views, size)]


def _blocks(count: int, table: ViewTable, pixels_each: int, build_bytes: int) -> list[tuple[int, int]]:
    """Return blocks of image rows (start, stop) to build together, for all views at once."""
    num_taps = float(np.ceil(2 * table.half_width).max()) * table.num_views
    size = max(1, int(build_bytes / (pixels_each * num_taps * _BUILD_BYTES_PER_TAP)))
    return [(row, min(row + size, count)) for row in range(0, count, size)]
