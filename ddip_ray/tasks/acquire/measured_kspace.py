"""Measured k-space: which samples were taken, and images and noise that it shows directly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ddip_ray.config.names import SamplingPattern
from ddip_ray.errors import InputError
from ddip_ray.io.kspace.raw import RawKSpace, centred
from ddip_ray.io.stores.schema import (
    SAMPLING_MASK,
    TRAJECTORY,
    CartesianMRI,
    NonCartesianMRI,
    Sampling,
    VoxelMm,
)
from ddip_ray.operators.mri.espirit import KSpace
from ddip_ray.operators.mri.kspace_centre import cartesian_centre, centre_size
from ddip_ray.operators.mri.noncartesian import NonCartesianSense
from ddip_ray.operators.mri.nufft import nufft_unavailable
from ddip_ray.operators.mri.sampling_mask import default_calibration, sampling_mask
from ddip_ray.operators.mri.sensitivity_maps import calibration_size
from ddip_ray.operators.mri.trajectory import fewer_readouts
from ddip_ray.tasks.acquire.coils import noise_along, noise_on_grid

Taken = NDArray[Any]  # masks (z, ky, kx), or trajectories (z, readout, sample, 2)


@dataclass(frozen=True)
class Undersampling:
    """Samples to leave out of a measured scan, in order to try a faster one.

    Attributes:
        acceleration: Factor by which fewer samples, or readouts of a trajectory, are kept.
        pattern: Sampling pattern on the grid; a trajectory has none.
        calibration: Lines at the centre that are kept; None means 8 % of the lines.
        seed: Seed of a random pattern.
    """

    acceleration: float
    pattern: SamplingPattern = "uniform1d"
    calibration: int | None = None
    seed: int = 0


class MeasuredKSpace(Protocol):
    """K-space as it is stored, Cartesian or along a trajectory.

    ``taken`` says which samples were taken: masks (z, ky, kx), or trajectories (z, readout, sample, 2).
    """

    taken_name: str  # the store's array of masks or trajectories
    remedy: str  # a hint for samples that are NaN

    def geometry(self, num_coils: int, voxel_mm: VoxelMm) -> CartesianMRI | NonCartesianMRI:
        """The geometry as the store records it; ``voxel_mm`` is (z, y, x)."""
        ...

    def kept(self, y: KSpace, slices: Sequence[int]) -> tuple[KSpace, Taken]:
        """The samples of some slices (numbers as in the file) that are stored, and which were taken.

        Raises:
            InputError: a slice has no sample left.
        """
        ...

    def centre(self, y: KSpace, taken: Taken) -> tuple[KSpace, int]:
        """A slice's k-space (coil, ky, kx) on the grid, and the side of the fully sampled square in it."""
        ...

    def centre_size(self, taken: Taken) -> int:
        """The side of the square at the centre of k-space that is fully sampled."""
        ...

    def images(self, y: KSpace, taken: Taken) -> KSpace:
        """The direct reconstruction (z, coil, y, x) of each coil."""
        ...

    def noise(self, y: KSpace, taken: Taken) -> float:
        """The standard deviation of the noise in a sample's real part, and in its imaginary part."""
        ...


class CartesianSamples:
    """Cartesian k-space, in which a 0 in every coil is a sample that was not taken."""

    taken_name, remedy = SAMPLING_MASK, "Set what was not sampled to 0"

    def __init__(self, path: str, image_shape: tuple[int, int], undersampling: Undersampling | None) -> None:
        self.source, self.image_shape = path, image_shape
        self.sampling, self.allowed = Sampling(pattern="given"), np.ones(image_shape, dtype=np.bool_)
        if undersampling is not None:
            self.sampling, self.allowed = _undersampled(undersampling, image_shape)

    def geometry(self, num_coils: int, voxel_mm: VoxelMm) -> CartesianMRI:
        """The geometry as the store records it; ``voxel_mm`` is (z, y, x)."""
        return CartesianMRI(
            num_coils=num_coils, image_shape=self.image_shape, voxel_mm=voxel_mm, sampling=self.sampling
        )

    def kept(self, y: KSpace, slices: Sequence[int]) -> tuple[KSpace, Taken]:
        """The samples (z, coil, ky, kx) that are stored, and their masks (z, ky, kx)."""
        mask = (y != 0).any(axis=1) & self.allowed
        for z, own in zip(slices, mask, strict=True):
            if not own.any():
                raise InputError(f"{self.source}: slice {z} has no sample", "Leave it out with `slices`")
        return np.where(mask[:, None], y, 0), mask

    def centre(self, y: KSpace, taken: Taken) -> tuple[KSpace, int]:
        """The slice as it is, and the side of the fully sampled square."""
        return y, self.centre_size(taken)

    def centre_size(self, taken: Taken) -> int:
        """The side of the square at the centre of k-space that is fully sampled."""
        return calibration_size(torch.from_numpy(taken).float())

    def images(self, y: KSpace, taken: Taken) -> KSpace:
        """The inverse Fourier transform (z, coil, y, x) of each coil."""
        return centred(np.fft.ifft, centred(np.fft.ifft, y, 2), 3)

    def noise(self, y: KSpace, taken: Taken) -> float:
        """The standard deviation of the noise in a sample's real part, and in its imaginary part."""
        return noise_on_grid(y)


class NonCartesianSamples:
    """K-space along the trajectory of ``raw``."""

    taken_name, remedy = TRAJECTORY, "Leave their readouts out, or the slice with `slices`"

    def __init__(
        self,
        path: str,
        raw: RawKSpace,
        image_size: tuple[int, int] | None,
        undersampling: Undersampling | None,
    ) -> None:
        assert raw.trajectory is not None
        if hindrance := nufft_unavailable():
            raise InputError(f"{path}: {hindrance}")
        shape = image_size or raw.image_shape
        if shape is None:
            raise InputError(
                f"{path}: a trajectory without the size of its image", "Give `image_size`, (y, x) pixels"
            )
        if min(shape) < 1:
            raise InputError(f"`image_size`: found {shape[0]} {shape[1]}, expected at least 1")
        found = raw.trajectory.shape
        if found[1:3] != raw.data.shape[2:] or found[0] not in (1, len(raw.data)):
            raise InputError(
                f"{path}: trajectory of shape {found} (z, readout, sample, 2), k-space of shape "
                f"{raw.data.shape} (z, coil, readout, sample)"
            )
        self.source, self.image_shape, self.sampling = path, shape, Sampling(pattern="given")
        self.rows = np.arange(found[1])
        if undersampling is not None:
            acceleration = undersampling.acceleration
            if undersampling != Undersampling(acceleration):
                raise InputError(f"{path}: `pattern`, `calibration` and `seed` are for k-space on a grid")
            if not 1 <= acceleration <= found[1]:
                raise InputError(
                    f"`acceleration`: found {acceleration:g}, expected 1 to {found[1]} (readouts)"
                )
            self.rows = fewer_readouts(raw.trajectory[0], round(found[1] / acceleration))
            self.sampling = Sampling(pattern="given", acceleration=acceleration)
        self.trajectories = raw.trajectory[:, self.rows]

    def geometry(self, num_coils: int, voxel_mm: VoxelMm) -> NonCartesianMRI:
        """The geometry as the store records it; ``voxel_mm`` is (z, y, x)."""
        num_readouts, num_samples = self.trajectories.shape[1:3]
        return NonCartesianMRI(
            num_coils=num_coils,
            num_readouts=num_readouts,
            num_samples=num_samples,
            image_shape=self.image_shape,
            voxel_mm=voxel_mm,
            sampling=self.sampling,
        )

    def kept(self, y: KSpace, slices: Sequence[int]) -> tuple[KSpace, Taken]:
        """The readouts (z, coil, readout, sample) that are stored, and their trajectories."""
        own = self.trajectories[[0] * len(y) if len(self.trajectories) == 1 else list(slices)]
        for z, samples in zip(slices, y, strict=True):
            if not samples.any():
                raise InputError(
                    f"{self.source}: slice {z} has no sample but 0", "Leave it out with `slices`"
                )
        return y[:, :, self.rows], own

    def centre(self, y: KSpace, taken: Taken) -> tuple[KSpace, int]:
        """The centre (coil, ky, kx) of a slice, interpolated to the grid, and its side."""
        size = self.centre_size(taken)
        centre = cartesian_centre(torch.from_numpy(taken), torch.from_numpy(y), self.image_shape, size)
        return centre.numpy(), size

    def centre_size(self, taken: Taken) -> int:
        """The side of the square at the centre of k-space that the readouts fill."""
        return centre_size(torch.from_numpy(taken), self.image_shape)

    def images(self, y: KSpace, taken: Taken) -> KSpace:
        """The gridded images (z, coil, y, x) of each coil."""
        one = torch.ones(1, *self.image_shape, dtype=torch.complex64)
        images = [
            NonCartesianSense(torch.from_numpy(path), one).direct_inverse(torch.from_numpy(own)[:, None])
            for own, path in zip(y, taken, strict=True)
        ]
        return np.stack([image.numpy() for image in images])

    def noise(self, y: KSpace, taken: Taken) -> float:
        """The standard deviation of the noise in a sample's real part, and in its imaginary part."""
        return noise_along(y, taken)


def _undersampled(u: Undersampling, image_shape: tuple[int, int]) -> tuple[Sampling, NDArray[np.bool_]]:
    calibration = default_calibration(image_shape) if u.calibration is None else u.calibration
    try:
        mask = sampling_mask(u.pattern, image_shape, u.acceleration, calibration, u.seed)
    except ValueError as error:
        raise InputError(f"undersampling: {error}") from error
    sampling = Sampling(pattern=u.pattern, acceleration=u.acceleration, calibration=calibration, seed=u.seed)
    return sampling, mask
