"""Parallel-beam projection of slices: ``ParallelBeam(geometry)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ddip_ray.numerics.autograd import linear
from ddip_ray.operators.base import check_shape
from ddip_ray.operators.ct import cpu_kernel
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.sparse_matrix import MatrixShape, StreamedMatrix, WholeMatrix, matrix_bytes
from ddip_ray.operators.ct.view_table import ViewTable, joseph_table

Backend = Literal["cpu_kernel", "sparse", "streamed"]

_BUILD_BYTES = 512 * 2**20  # temporaries while a block of a sparse matrix is built


class ParallelBeam:
    """Line integrals of slices along the rays of a parallel-beam scan (Joseph's projector).

    ``forward`` gives integrals in the unit of ``geometry.pixel_size``; ``adjoint`` is its transpose.
    Both are differentiable, and take and give ``(z, ...)`` tensors of any strides. Results are
    slice-innermost in memory (a permuted view of (y, x, z)): this is what the kernels read
    without a copy, so an iterative solver that feeds results back stays in the fast layout.

    Back-ends, all with the same weights:

    - ``cpu_kernel``: matrix-free, any size. The result of a slice does not depend on the number of
      slices in the call, its place among them, or the number of threads: not in a single bit.
    - ``sparse``: CSR matrix and its transpose on the device.
    - ``streamed``: the CSR matrix of a few views at a time, rebuilt at each call; for what does not fit.

    Pickling ships geometry, device, dtype and the request; matrices are rebuilt on first use.

    Args:
        geometry: where the rays go.
        device: where tensors live.
        dtype: float32 or float64, of tensors and sums (weights are computed in float64).
        backend: one of the above, or "auto": ``cpu_kernel`` on a CPU, else ``sparse`` if the matrices
            fit in the budget, else ``streamed``.
        memory_budget: bytes that "auto" grants the matrices; default half of the free device memory.

    Attributes:
        backend: the back-end chosen (on a GPU "auto" chooses at first use).

    Raises:
        ValueError: unknown back-end or dtype, ``cpu_kernel`` off the CPU, and at calls a tensor of
            wrong shape, dtype or device.
    """

    def __init__(
        self,
        geometry: ParallelBeamGeometry,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Backend | Literal["auto"] = "auto",
        memory_budget: int | None = None,
    ) -> None:
        self.geometry = geometry
        self.device = torch.device(device)
        self.dtype = dtype
        self._requested: Backend | Literal["auto"] = backend
        self._memory_budget = memory_budget
        # Built on first use, never shipped.
        self._chosen: Backend | None = None
        self._table: ViewTable | None = None
        self._matrix: WholeMatrix | StreamedMatrix | None = None
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"ParallelBeam: dtype is {dtype}, expected torch.float32 or torch.float64")
        if backend not in ("auto", "cpu_kernel", "sparse", "streamed"):
            raise ValueError(
                f"ParallelBeam: backend is {backend!r}, expected auto, cpu_kernel, sparse or streamed"
            )
        if backend == "cpu_kernel" and self.device.type != "cpu":
            raise ValueError(f"ParallelBeam: backend cpu_kernel runs on the CPU, got device {self.device}")

    @property
    def image_shape(self) -> tuple[int, int]:
        """(y, x) of a slice."""
        return self.geometry.image_shape

    @property
    def measurement_shape(self) -> tuple[int, int]:
        """(view, detector) of a slice's sinogram."""
        return (self.geometry.num_views, self.geometry.num_detectors)

    @property
    def backend(self) -> Backend:
        """The back-end in use."""
        if self._chosen is None:
            self._chosen = self._choose_backend()
        return self._chosen

    def forward(self, x: Tensor) -> Tensor:
        """Line integrals. ``x: (z, y, x)`` to ``(z, view, detector)``."""
        self._check("forward(x)", x, self.image_shape)
        return linear(x, self._project, self._backproject)

    def adjoint(self, y: Tensor) -> Tensor:
        """Transpose of ``forward``. ``y: (z, view, detector)`` to ``(z, y, x)``."""
        self._check("adjoint(y)", y, self.measurement_shape)
        return linear(y, self._backproject, self._project)

    def of_slices(self, rows: Sequence[int]) -> ParallelBeam:
        """Itself: slices are alike."""
        return self

    def __repr__(self) -> str:
        return (
            f"ParallelBeam(image_shape={self.image_shape}, measurement_shape={self.measurement_shape}, "
            f"device={str(self.device)!r}, dtype={self.dtype}, backend={self._requested!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_chosen": None, "_table": None, "_matrix": None}

    def _check(self, method: str, tensor: Tensor, expected: tuple[int, int]) -> None:
        check_shape(f"ParallelBeam.{method}", tensor.shape, expected)
        if tensor.dtype != self.dtype:
            raise ValueError(f"ParallelBeam.{method}: expected dtype {self.dtype}, got {tensor.dtype}")
        if tensor.device.type != self.device.type:
            raise ValueError(
                f"ParallelBeam.{method}: expected a tensor on {self.device}, got {tensor.device}"
            )

    def _choose_backend(self) -> Backend:
        if self._requested != "auto":
            return self._requested
        if self.device.type == "cpu":
            return "cpu_kernel"
        budget = self._memory_budget
        if budget is None:
            budget = torch.cuda.mem_get_info(self.device)[0] // 2 if self.device.type == "cuda" else 2**30
        fits = matrix_bytes(self._joseph(), self._matrix_shape()) + _BUILD_BYTES <= budget
        return "sparse" if fits else "streamed"

    def _matrix_shape(self) -> MatrixShape:
        return MatrixShape(*self.image_shape, self.geometry.num_detectors, self.dtype, self.device)

    def _joseph(self) -> ViewTable:
        if self._table is None:
            self._table = joseph_table(self.geometry)
        return self._table

    def _joseph_matrix(self) -> WholeMatrix | StreamedMatrix:
        if self._matrix is None:
            kind = WholeMatrix if self.backend == "sparse" else StreamedMatrix
            self._matrix = kind(self._joseph(), self._matrix_shape(), _BUILD_BYTES)
        return self._matrix

    def _project(self, x: Tensor) -> Tensor:
        innermost = x.permute(1, 2, 0)  # (y, x, z): the memory order that kernels want
        if self.backend == "cpu_kernel":
            sinogram = x.new_empty(*self.measurement_shape, x.shape[0])
            num_threads = torch.get_num_threads()
            cpu_kernel.project(self._joseph(), innermost.numpy(), sinogram.numpy(), num_threads)
        else:
            columns = innermost.flatten(0, 1).contiguous()
            sinogram = self._joseph_matrix().project(columns).view(*self.measurement_shape, x.shape[0])
        return sinogram.permute(2, 0, 1)

    def _backproject(self, y: Tensor, table: ViewTable | None = None) -> Tensor:
        """Weighted sum of rays at each pixel: the adjoint, or another table's (FBP has its own)."""
        innermost = y.permute(1, 2, 0)
        if self.backend == "cpu_kernel":
            image = y.new_empty(*self.image_shape, y.shape[0])
            num_threads = torch.get_num_threads()
            cpu_kernel.backproject(table or self._joseph(), innermost.numpy(), image.numpy(), num_threads)
        else:
            columns = innermost.flatten(0, 1).contiguous()
            matrix = (
                self._joseph_matrix()
                if table is None
                else StreamedMatrix(table, self._matrix_shape(), _BUILD_BYTES)  # used once: not worth keeping
            )
            image = matrix.backproject(columns).view(*self.image_shape, y.shape[0])
        return image.permute(2, 0, 1)
