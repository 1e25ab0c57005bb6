"""Parallel-beam projection of slices: ``ParallelBeam(geometry)``."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ddip_ray.operators.base import LinearOperator
from ddip_ray.operators.coarse_scan import CoarseScan
from ddip_ray.operators.ct import cpu_kernel
from ddip_ray.operators.ct.coarse import coarse_geometry, field_of_view
from ddip_ray.operators.ct.filtered_backprojection import filtered_backprojection
from ddip_ray.operators.ct.geometry import ParallelBeamGeometry
from ddip_ray.operators.ct.missing_wedge import rotations_off_the_wedge
from ddip_ray.operators.ct.sparse_matrix import MatrixShape, StreamedMatrix, WholeMatrix, matrix_bytes
from ddip_ray.operators.ct.view_table import ViewTable, joseph_table
from ddip_ray.operators.evenly_spread import evenly_spread

Backend = Literal["cpu_kernel", "sparse", "streamed"]

_BUILD_BYTES = 512 * 2**20  # temporaries while a block of a sparse matrix is built


class ParallelBeam(LinearOperator):
    """Line integrals of slices along the rays of a parallel-beam scan.

    The projector is Joseph's (An Improved Algorithm for Reprojecting Rays through Pixel Images, IEEE
    Transactions on Medical Imaging 1982, doi:10.1109/TMI.1982.4307572). ``forward`` maps ``(z, y, x)`` to
    ``(z, view, detector)``, in the unit of length of ``geometry.pixel_size``.

    Tensors may have any strides. Results are slice-innermost in memory (a permuted view of (y, x, z)). The
    kernels read this layout without a copy, so an iterative solver that feeds results back stays fast.

    There are three back-ends, all with the same weights:

    - ``cpu_kernel``: matrix-free, any size. The bits of a slice's result do not depend on the number of
      slices in the call, its place among them, or the number of threads.
    - ``sparse``: CSR matrix and its transpose on the device.
    - ``streamed``: the CSR matrix of a few views at a time, rebuilt at each call, for matrices that do not
      fit.

    Pickling ships geometry, device, dtype and the requested back-end; matrices are rebuilt on first use.

    Args:
        geometry: image, view angles and detector.
        device: device of images and sinograms.
        dtype: float32 or float64, for tensors and sums; weights are computed in float64.
        backend: one of the above, or "auto": ``cpu_kernel`` on a CPU, else ``sparse`` if the matrices
            fit in the budget, else ``streamed``.
        memory_budget: bytes that "auto" grants the matrices; None: half of the free device memory.

    Attributes:
        geometry: image, view angles and detector.

    Raises:
        ValueError: unknown back-end or dtype, ``cpu_kernel`` off the CPU, and at calls a tensor of
            wrong shape, dtype or device.
    """

    direct_method: ClassVar[str | None] = "fbp"

    def __init__(
        self,
        geometry: ParallelBeamGeometry,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Backend | Literal["auto"] = "auto",
        memory_budget: int | None = None,
    ) -> None:
        sinogram_shape = (geometry.num_views, geometry.num_detectors)
        super().__init__(geometry.image_shape, sinogram_shape, dtype=dtype, device=device)
        self.geometry = geometry
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

    @classmethod
    def equispaced(
        cls,
        image_shape: tuple[int, int],
        num_views: int,
        *,
        start_deg: float = 0.0,
        range_deg: float = 180.0,
        num_detectors: int | None = None,
        pixel_size: float = 1.0,
        detector_spacing: float | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Backend | Literal["auto"] = "auto",
    ) -> ParallelBeam:
        """Return the projector of a scan with equally spaced views and a centred rotation axis.

        Args:
            image_shape: ``(y, x)`` of a slice in pixels.
            num_views: number of views.
            start_deg: angle of the first view in degrees.
            range_deg: angular range in degrees, whose end is left out; below 180 the scan has a missing
                wedge.
            num_detectors: detector columns; None: enough to see the whole image from every view.
            pixel_size: side of a pixel in any unit of length, in which line integrals are then measured.
            detector_spacing: distance between detector columns in the same unit; None: ``pixel_size``.
            device: device of images and sinograms.
            dtype: float32 or float64.
            backend: as for the class.

        Raises:
            InputError: a value that makes no scan.
        """
        geometry = ParallelBeamGeometry.equispaced(
            image_shape,
            num_views,
            start_deg=start_deg,
            range_deg=range_deg,
            num_detectors=num_detectors,
            pixel_size=pixel_size,
            detector_spacing=detector_spacing,
        )
        return cls(geometry, device=device, dtype=dtype, backend=backend)

    @property
    def backend(self) -> Backend:
        """The back-end in use; "auto" chooses at first use."""
        if self._chosen is None:
            self._chosen = self._choose_backend()
        return self._chosen

    def hold_out(self, share: float, seed: int) -> Tensor:
        """Return a mask (view, 1) that holds out whole views, evenly spread."""
        num_views = self.measurement_shape[0]
        kept = torch.ones(num_views, 1)
        kept[evenly_spread(num_views, share, seed)] = 0
        return kept

    def coarse_scan(self, downsampling: int) -> CoarseScan:
        """Return the scan of larger pixels and detector columns from fewer views."""
        geometry = coarse_geometry(self.geometry, downsampling)
        operator = ParallelBeam(geometry, device=self.device, dtype=self.dtype)
        return CoarseScan(
            operator,
            field_of_view(geometry).to(self.dtype).to(self.device),
            rotations_off_the_wedge(self.geometry.angles),
            # Larger pixels average noise, fewer views do not.
            downsampling * math.sqrt(geometry.num_views / self.geometry.num_views),
        )

    def direct_inverse(self, y: Tensor, filter_name: str | None = None) -> Tensor:
        """Return the filtered back-projection of ``y``, with the plain ramp or its window ``filter_name``."""
        return filtered_backprojection(self, y, filter_name or "ram-lak")

    def __repr__(self) -> str:
        """Return shapes, device, dtype and the requested back-end."""
        return (
            f"ParallelBeam(image_shape={self.image_shape}, measurement_shape={self.measurement_shape}, "
            f"device={str(self.device)!r}, dtype={self.dtype}, backend={self._requested!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but what is rebuilt on first use."""
        return {**self.__dict__, "_chosen": None, "_table": None, "_matrix": None}

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
        return MatrixShape(*self.geometry.image_shape, self.geometry.num_detectors, self.dtype, self.device)

    def _joseph(self) -> ViewTable:
        if self._table is None:
            self._table = joseph_table(self.geometry)
        return self._table

    def _joseph_matrix(self) -> WholeMatrix | StreamedMatrix:
        if self._matrix is None:
            kind = WholeMatrix if self.backend == "sparse" else StreamedMatrix
            self._matrix = kind(self._joseph(), self._matrix_shape(), _BUILD_BYTES)
        return self._matrix

    def _forward(self, x: Tensor) -> Tensor:
        innermost = x.permute(1, 2, 0)  # (y, x, z): the memory order that kernels want
        if self.backend == "cpu_kernel":
            sinogram = x.new_empty(*self.measurement_shape, x.shape[0])
            num_threads = torch.get_num_threads()
            cpu_kernel.project(self._joseph(), innermost.numpy(), sinogram.numpy(), num_threads)
        else:
            columns = innermost.flatten(0, 1).contiguous()
            sinogram = self._joseph_matrix().project(columns).view(*self.measurement_shape, x.shape[0])
        return sinogram.permute(2, 0, 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.backproject(y, self._joseph())

    def backproject(self, y: Tensor, table: ViewTable) -> Tensor:
        """Return the weighted sum over rays at each pixel; the adjoint and FBP differ by their ``table``.

        Args:
            y: sinogram, ``(z, view, detector)``.
            table: weights between pixels and rays.

        Returns:
            Images, ``(z, y, x)``; not differentiable.
        """
        innermost = y.permute(1, 2, 0)
        if self.backend == "cpu_kernel":
            image = y.new_empty(*self.image_shape, y.shape[0])
            num_threads = torch.get_num_threads()
            cpu_kernel.backproject(table, innermost.numpy(), image.numpy(), num_threads)
        else:
            columns = innermost.flatten(0, 1).contiguous()
            matrix = (
                self._joseph_matrix()
                if table is self._table
                else StreamedMatrix(table, self._matrix_shape(), _BUILD_BYTES)  # used once: not worth keeping
            )
            image = matrix.backproject(columns).view(*self.image_shape, y.shape[0])
        return image.permute(2, 0, 1)
