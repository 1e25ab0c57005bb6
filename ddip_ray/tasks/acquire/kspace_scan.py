"""Simulated MRI scans of an image: on the Cartesian grid, or along trajectories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.config.names import SamplingPattern
from ddip_ray.io.stores.schema import (
    SAMPLING_MASK,
    TRAJECTORY,
    CartesianMRI,
    NonCartesianMRI,
    Sampling,
)
from ddip_ray.operators.base import LinearOperator
from ddip_ray.operators.mri.cartesian import Sense
from ddip_ray.operators.mri.noncartesian import NonCartesianSense
from ddip_ray.operators.mri.sampling_mask import sampling_mask
from ddip_ray.operators.mri.trajectory import trajectory
from ddip_ray.tasks.acquire.measurement_noise import NO_NOISE, NoiseRequest
from ddip_ray.tasks.acquire.synthetic_coils import coil_maps, smooth_phase


@dataclass(frozen=True)
class KSpaceScan:
    """The MRI scan to simulate.

    Attributes:
        pattern: Sampling pattern.
        acceleration: Nominal acceleration, 1 or more.
        calibration: Fully sampled lines, or side of the square, at the centre; None means 8 % of the lines.
        num_coils: Number of coils; 1 means a single coil of sensitivity 1.
        mask_per_slice: Whether a random pattern is drawn anew for every slice.
        off_grid: Whether radial and spiral patterns are sampled along their trajectories rather than on the
            grid, without a calibration region.
        phase: Whether the image gets a smooth random phase.
        noise: Noise; the level of gaussian noise is relative to the root mean square of the samples taken.
        seed: Seed of pattern, phase, coils and noise.
        brightest: The image value that becomes 1; None takes the 99.9 percentile.
        slices: Range of slices, for example ``"10:34"``; None means all.
    """

    pattern: SamplingPattern
    acceleration: float
    calibration: int | None = None
    num_coils: int = 8
    mask_per_slice: bool = False
    off_grid: bool = False
    phase: bool = True
    noise: NoiseRequest = NO_NOISE
    seed: int = 0
    brightest: float | None = None
    slices: str | None = None


@dataclass(frozen=True)
class ScanSimulator(ABC):
    """A simulated scan of the ``chosen`` slices of a volume; ``start`` and ``stop`` count within those."""

    taken_name: ClassVar[str]  # the store's array that says which samples are taken

    scan: KSpaceScan
    calibration: int
    image: object
    chosen: range
    volume_shape: tuple[int, int, int]

    @property
    def image_shape(self) -> tuple[int, int]:
        """The shape (y, x) of a slice."""
        return self.volume_shape[1], self.volume_shape[2]

    @abstractmethod
    def geometry(self, voxel_mm: tuple[float, float, float]) -> CartesianMRI | NonCartesianMRI:
        """The geometry as the store records it; ``voxel_mm`` is (z, y, x)."""

    @abstractmethod
    def taken_in(self, draw: int) -> NDArray[Any]:
        """The mask or the trajectory of the slice number ``draw``."""

    @abstractmethod
    def operator(self, taken: Tensor, maps: Tensor) -> LinearOperator:
        """The forward operator for given masks or trajectories and sensitivity maps."""

    @abstractmethod
    def is_taken(self, taken: NDArray[Any]) -> NDArray[np.bool_]:
        """A mask (z, …) over a coil's stored measurements: which of them were taken."""

    def taken(self, start: int, stop: int) -> NDArray[Any]:
        """The masks or trajectories (z, …) of slices [start, stop)."""
        draws = range(start, stop) if self.scan.mask_per_slice else [0]
        each = np.stack([self.taken_in(draw) for draw in draws])
        return np.broadcast_to(each, (stop - start, *each.shape[1:]))

    def maps(self, start: int, stop: int) -> NDArray[np.complex64]:
        """The sensitivity maps (z, coil, y, x) of slices [start, stop)."""
        if self.scan.num_coils == 1:
            return np.ones((stop - start, 1, *self.volume_shape[1:]), dtype=np.complex64)
        return coil_maps(self.scan.num_coils, self.chosen[start:stop], self.volume_shape, self.scan.seed)

    def images(self, start: int, stop: int) -> NDArray[np.complex64]:
        """The complex images (z, y, x) of slices [start, stop)."""
        chosen = self.chosen[start:stop]
        x: NDArray[np.complex64] = self.image[chosen.start : chosen.stop].compute(scheduler="threads")  # type: ignore[index]
        x = x.astype(np.complex64)
        return x * smooth_phase(chosen, self.volume_shape, self.scan.seed) if self.scan.phase else x

    def kspace(self, start: int, stop: int) -> NDArray[np.complex64]:
        """The noise-free k-space (z, coil, …) of slices [start, stop)."""
        taken, maps = self.taken(start, stop).copy(), self.maps(start, stop)
        operator = self.operator(torch.from_numpy(taken), torch.from_numpy(maps))
        y: NDArray[np.complex64] = operator.forward(torch.from_numpy(self.images(start, stop))).numpy()
        return y


class CartesianScan(ScanSimulator):
    """A scan on the Cartesian grid, with a sampling mask."""

    taken_name = SAMPLING_MASK

    def geometry(self, voxel_mm: tuple[float, float, float]) -> CartesianMRI:
        """The geometry as the store records it; ``voxel_mm`` is (z, y, x)."""
        scan = self.scan
        sampling = Sampling(
            pattern=scan.pattern, acceleration=scan.acceleration, calibration=self.calibration, seed=scan.seed
        )
        return CartesianMRI(
            num_coils=scan.num_coils, image_shape=self.image_shape, voxel_mm=voxel_mm, sampling=sampling
        )

    def taken_in(self, draw: int) -> NDArray[np.bool_]:
        """The mask (ky, kx) of the slice number ``draw``."""
        scan = self.scan
        seed = scan.seed + draw
        return sampling_mask(scan.pattern, self.image_shape, scan.acceleration, self.calibration, seed)

    def operator(self, taken: Tensor, maps: Tensor) -> Sense:
        """The SENSE operator for masks (z, ky, kx) and maps (z, coil, y, x)."""
        return Sense(taken, maps)

    def is_taken(self, taken: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The masks themselves."""
        return taken


class NonCartesianScan(ScanSimulator):
    """A scan along radial or spiral trajectories."""

    taken_name = TRAJECTORY

    def geometry(self, voxel_mm: tuple[float, float, float]) -> NonCartesianMRI:
        """The geometry as the store records it; ``voxel_mm`` is (z, y, x)."""
        scan = self.scan
        num_readouts, num_samples, _ = self.taken_in(0).shape
        return NonCartesianMRI(
            num_coils=scan.num_coils,
            num_readouts=num_readouts,
            num_samples=num_samples,
            image_shape=self.image_shape,
            voxel_mm=voxel_mm,
            sampling=Sampling(pattern=scan.pattern, acceleration=scan.acceleration),
        )

    def taken_in(self, draw: int) -> NDArray[np.float32]:
        """The trajectory (readout, sample, 2) of the slice number ``draw``."""
        return trajectory(self.scan.pattern, self.image_shape, self.scan.acceleration, draw)

    def operator(self, taken: Tensor, maps: Tensor) -> NonCartesianSense:
        """The operator for trajectories (z, readout, sample, 2) and maps (z, coil, y, x)."""
        return NonCartesianSense(taken, maps)

    def is_taken(self, taken: NDArray[np.float32]) -> NDArray[np.bool_]:
        """True for every sample, because all samples of a trajectory are taken."""
        return np.ones(taken.shape[:-1], dtype=np.bool_)
