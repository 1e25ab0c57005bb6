"""What of k-space a simulated scan takes: on the Cartesian grid, or along trajectories."""

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
    """What to simulate. ``calibration`` None: 8 % of the lines. ``brightest`` becomes 1.

    The level of gaussian ``noise`` is relative to the root mean square of the samples that are taken.
    ``mask_per_slice`` draws a random pattern anew for every slice. ``off_grid``: radial and spiral patterns
    keep to their trajectories, without a calibration region of their own.
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
class Measuring(ABC):
    """The scan of some of a volume's slices; ``start`` and ``stop`` count those."""

    taken_name: ClassVar[str]  # of the array that says which samples are taken

    scan: KSpaceScan
    calibration: int
    image: object
    chosen: range
    volume_shape: tuple[int, int, int]

    @property
    def image_shape(self) -> tuple[int, int]:
        return self.volume_shape[1], self.volume_shape[2]

    @abstractmethod
    def geometry(self, voxel_mm: tuple[float, float, float]) -> CartesianMRI | NonCartesianMRI: ...

    @abstractmethod
    def taken_in(self, draw: int) -> NDArray[Any]:
        """Mask or trajectory of the ``draw``-th slice."""

    @abstractmethod
    def operator(self, taken: Tensor, maps: Tensor) -> LinearOperator: ...

    @abstractmethod
    def is_taken(self, taken: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the stored measurements of a coil are, (z, …)."""

    def taken(self, start: int, stop: int) -> NDArray[Any]:
        """Masks or trajectories, (z, …)."""
        draws = range(start, stop) if self.scan.mask_per_slice else [0]
        each = np.stack([self.taken_in(draw) for draw in draws])
        return np.broadcast_to(each, (stop - start, *each.shape[1:]))

    def maps(self, start: int, stop: int) -> NDArray[np.complex64]:
        """(z, coil, y, x)."""
        if self.scan.num_coils == 1:
            return np.ones((stop - start, 1, *self.volume_shape[1:]), dtype=np.complex64)
        return coil_maps(self.scan.num_coils, self.chosen[start:stop], self.volume_shape, self.scan.seed)

    def images(self, start: int, stop: int) -> NDArray[np.complex64]:
        """(z, y, x)."""
        chosen = self.chosen[start:stop]
        x: NDArray[np.complex64] = self.image[chosen.start : chosen.stop].compute(scheduler="threads")  # type: ignore[index]
        x = x.astype(np.complex64)
        return x * smooth_phase(chosen, self.volume_shape, self.scan.seed) if self.scan.phase else x

    def kspace(self, start: int, stop: int) -> NDArray[np.complex64]:
        """(z, coil, …), without noise."""
        taken, maps = self.taken(start, stop).copy(), self.maps(start, stop)
        operator = self.operator(torch.from_numpy(taken), torch.from_numpy(maps))
        y: NDArray[np.complex64] = operator.forward(torch.from_numpy(self.images(start, stop))).numpy()
        return y


class CartesianScan(Measuring):
    taken_name = SAMPLING_MASK

    def geometry(self, voxel_mm: tuple[float, float, float]) -> CartesianMRI:
        scan = self.scan
        sampling = Sampling(
            pattern=scan.pattern, acceleration=scan.acceleration, calibration=self.calibration, seed=scan.seed
        )
        return CartesianMRI(
            num_coils=scan.num_coils, image_shape=self.image_shape, voxel_mm=voxel_mm, sampling=sampling
        )

    def taken_in(self, draw: int) -> NDArray[np.bool_]:
        scan = self.scan
        seed = scan.seed + draw
        return sampling_mask(scan.pattern, self.image_shape, scan.acceleration, self.calibration, seed)

    def operator(self, taken: Tensor, maps: Tensor) -> Sense:
        return Sense(taken, maps)

    def is_taken(self, taken: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return taken


class NonCartesianScan(Measuring):
    taken_name = TRAJECTORY

    def geometry(self, voxel_mm: tuple[float, float, float]) -> NonCartesianMRI:
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
        return trajectory(self.scan.pattern, self.image_shape, self.scan.acceleration, draw)

    def operator(self, taken: Tensor, maps: Tensor) -> NonCartesianSense:
        return NonCartesianSense(taken, maps)

    def is_taken(self, taken: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.ones(taken.shape[:-1], dtype=np.bool_)
