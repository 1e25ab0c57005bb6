"""Simulate accelerated Cartesian MRI of an image, slab by slab."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.acquisition import Acquisition, AcquisitionWriter, create_acquisition
from ddip_ray.io.images import choose_window, normalise, open_image
from ddip_ray.io.schema import (
    SAMPLING_MASK,
    SENSITIVITY_MAPS,
    AcquisitionMetadata,
    CartesianMRI,
    GaussianNoise,
    Pattern,
    Sampling,
)
from ddip_ray.operators.sampling_mask import PATTERNS, default_calibration, sampling_mask
from ddip_ray.operators.sense import Sense
from ddip_ray.tasks.noise import NO_NOISE, NoiseRequest, describe_noise
from ddip_ray.tasks.progress import Report, silent
from ddip_ray.tasks.simulate import ImageChoice
from ddip_ray.tasks.slices import parse_range, slabs
from ddip_ray.tasks.synthetic_mri import coil_maps, smooth_phase


@dataclass(frozen=True)
class KSpaceScan:
    """What to simulate. ``calibration`` None: 8 % of the lines. ``brightest`` becomes 1.

    The level of gaussian ``noise`` is relative to the root mean square of the samples that are taken.
    ``mask_per_slice`` draws a random pattern anew for every slice.
    """

    pattern: Pattern
    acceleration: float
    calibration: int | None = None
    num_coils: int = 8
    mask_per_slice: bool = False
    phase: bool = True
    noise: NoiseRequest = NO_NOISE
    seed: int = 0
    brightest: float | None = None
    slices: str | None = None


def simulate_mri(
    image_path: str,
    output: str,
    scan: KSpaceScan,
    *,
    image: ImageChoice | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> Acquisition:
    """Scan the magnitude image at ``image_path`` and write k-space, mask, coils and reference to ``output``.

    Raises:
        InputError: the image, the scan or the output is not what it should be; nothing is written then.
    """
    choice = image or ImageChoice()
    volume = open_image(
        image_path, volume_index=choice.volume_index, key=choice.key, voxel_mm=choice.voxel_mm
    )
    num_slices, ny, nx = volume.array.shape
    chosen = parse_range(scan.slices, num_slices, "slices")
    calibration = default_calibration((ny, nx)) if scan.calibration is None else scan.calibration
    _check(scan, calibration, (ny, nx))
    brightest = scan.brightest or choose_window(volume)[1]
    normalised, intensity = normalise(volume, (0.0, brightest), clip=False)
    notes = [f"0 to {brightest:g} {volume.unit}".rstrip() + " became 0 to 1, not clipped"]
    if scan.phase:
        notes.append("a smooth random phase was put on it")
    if len(chosen) < num_slices:
        notes.append(f"slices {chosen.start} to {chosen.stop - 1} of {num_slices}")
    metadata = AcquisitionMetadata(
        acquisition=CartesianMRI(
            num_coils=scan.num_coils,
            image_shape=(ny, nx),
            voxel_mm=volume.voxel_mm,
            sampling=Sampling(
                pattern=scan.pattern, acceleration=scan.acceleration, calibration=calibration, seed=scan.seed
            ),
        ),
        intensity=intensity,
        orientation=volume.orientation.from_slice(chosen.start),
        source=volume.source.noting(*notes),
    )
    with create_acquisition(
        output,
        metadata,
        len(chosen),
        with_reference=True,
        overwrite=overwrite,
        with_sensitivity_maps=scan.num_coils > 1,
    ) as writer:
        measuring = _Measuring(scan, calibration, normalised, chosen, (num_slices, ny, nx))
        _write(writer, measuring, report)
        return writer.commit()


def parse_pattern(text: str) -> Pattern:
    """The sampling pattern of that name."""
    for pattern in PATTERNS:
        if text == pattern:
            return pattern
    raise InputError(f"--pattern: found {text!r}, expected one of {', '.join(PATTERNS)}")


def _check(scan: KSpaceScan, calibration: int, image_shape: tuple[int, int]) -> None:
    if not (math.isfinite(scan.acceleration) and scan.acceleration >= 1):
        raise InputError(f"--acceleration: found {scan.acceleration:g}, expected 1 or more")
    if not 0 <= calibration <= min(image_shape):
        raise InputError(f"--calibration: found {calibration}, expected 0 to {min(image_shape)}")
    if scan.num_coils < 1:
        raise InputError(f"--coils: found {scan.num_coils}, expected at least 1")
    if scan.noise.kind == "poisson":
        raise InputError("--noise poisson counts photons, of which MRI has none", "Use gaussian:RELATIVE_STD")
    if scan.brightest is not None and not (math.isfinite(scan.brightest) and scan.brightest > 0):
        raise InputError(f"--brightest: found {scan.brightest:g}, expected a positive value")


@dataclass(frozen=True)
class _Measuring:
    """The scan of some of a volume's slices; ``start`` and ``stop`` count those."""

    scan: KSpaceScan
    calibration: int
    image: object
    chosen: range
    volume_shape: tuple[int, int, int]

    def masks(self, start: int, stop: int) -> NDArray[np.bool_]:
        """(z, ky, kx)."""
        scan, (_, *plane) = self.scan, self.volume_shape
        draws = range(start, stop) if scan.mask_per_slice else [0]
        masks = [
            sampling_mask(
                scan.pattern, (plane[0], plane[1]), scan.acceleration, self.calibration, scan.seed + draw
            )
            for draw in draws
        ]
        return np.broadcast_to(np.stack(masks), (stop - start, *plane))

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
        """(z, coil, ky, kx), without noise."""
        mask, maps = (
            torch.from_numpy(self.masks(start, stop).copy()),
            torch.from_numpy(self.maps(start, stop)),
        )
        y: NDArray[np.complex64] = (
            Sense(mask, maps).forward(torch.from_numpy(self.images(start, stop))).numpy()
        )
        return y


def _write(writer: AcquisitionWriter, measuring: _Measuring, report: Report) -> None:
    geometry = writer.metadata.acquisition
    slice_bytes = 8 * math.prod(geometry.measurement_shape)
    steps = list(slabs(writer.num_slices, writer.shard_slices, slice_bytes))
    request = measuring.scan.noise
    total = writer.num_slices * (1 if request.kind == "none" else 2)
    if request.kind != "none":
        energies: list[float] = []
        count = 0
        for start, stop in steps:
            y = measuring.kspace(start, stop)
            energies += [float(np.square(np.abs(row), dtype=np.float64).sum()) for row in y]
            count += 2 * geometry.measurement_shape[0] * int(measuring.masks(start, stop).sum())
            report(stop, total, "measuring the signal")
        noise = describe_noise(request, request.level * math.sqrt(sum(energies) / count), measuring.scan.seed)
        writer.metadata = writer.metadata.model_copy(update={"noise": noise})
    for start, stop in steps:
        mask, y = measuring.masks(start, stop), measuring.kspace(start, stop)
        writer.write_measurements(start, _noisy(y, mask, writer.metadata.noise, start))
        writer.write(SAMPLING_MASK, start, mask)
        writer.write_reference(start, measuring.images(start, stop))
        if SENSITIVITY_MAPS in writer.names:
            writer.write(SENSITIVITY_MAPS, start, measuring.maps(start, stop))
        report(total - writer.num_slices + stop, total, "sampling k-space")


def _noisy(
    y: NDArray[np.complex64], mask: NDArray[np.bool_], noise: object, start: int
) -> NDArray[np.complex64]:
    """With white noise in the samples that are taken, keyed by seed and slice."""
    if not isinstance(noise, GaussianNoise):
        return y
    out = y.copy()
    for row in range(len(y)):
        generator = np.random.default_rng([noise.seed, start + row])
        parts = generator.standard_normal((*y.shape[1:], 2), dtype=np.float32)
        out[row] += np.float32(noise.std) * mask[row] * parts.view(np.complex64)[..., 0]
    return out
