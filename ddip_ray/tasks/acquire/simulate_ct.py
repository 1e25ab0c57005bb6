"""Simulation of a sparse-view parallel-beam CT scan of an image, slab by slab."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.images.open import apply_window, open_image
from ddip_ray.io.images.volume import ImageVolume
from ddip_ray.io.stores.acquisition import Acquisition, AcquisitionWriter, create_acquisition
from ddip_ray.io.stores.schema import AcquisitionMetadata, Intensity, ParallelCT
from ddip_ray.problems.parallel_ct import build_operator
from ddip_ray.tasks.acquire.measurement_noise import (
    NO_NOISE,
    NoiseRequest,
    add_noise,
    attenuation_of_one,
    describe_noise,
    noise_energy,
)
from ddip_ray.tasks.progress import Report, silent
from ddip_ray.tasks.slices import parse_range, slabs


@dataclass(frozen=True)
class Scan:
    """The CT scan to simulate.

    Attributes:
        num_views: Number of projection angles, equally spaced.
        angular_range_deg: Range of the angles, its end left out.
        noise: Noise of the measurements.
        seed: Seed of the noise.
        num_detectors: Detector columns; None takes as many as see the whole slice from every angle.
        detector_spacing_mm: Width of a column in mm; None takes the pixel size.
        rotation_center: 0-based column of the rotation axis; None takes the middle of the detector.
        window: (low, high) in the image's unit that become 0 and 1, with values beyond clipped. None takes
            -1000 to 1000 for HU and the 0.1 and 99.9 percentiles for other images, and clips nothing.
        mu_max: Attenuation in 1/mm of the normalised value 1, for Poisson noise; None where the image tells
            it.
        slices: Range of slices, for example ``"10:34"``; None means all.
    """

    num_views: int
    angular_range_deg: float = 180.0
    noise: NoiseRequest = NO_NOISE
    seed: int = 0
    num_detectors: int | None = None
    detector_spacing_mm: float | None = None
    rotation_center: float | None = None
    window: tuple[float, float] | None = None
    mu_max: float | None = None
    slices: str | None = None


@dataclass(frozen=True)
class ImageChoice:
    """Which image in a file that holds several, and its voxel in mm (z, y, x) where the file is silent."""

    volume_index: int = 0
    key: str | None = None
    voxel_mm: tuple[float, float, float] | None = None


def simulate(
    image_path: str,
    output: str,
    scan: Scan,
    *,
    image: ImageChoice | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> Acquisition:
    """Simulate a CT scan of an image and write measurements and reference as an acquisition.

    The image is read slab by slab, twice if there is noise, whose size depends on all measurements.

    Args:
        image_path: File or folder of a 3D image, as for `open_image`.
        output: Path of the new acquisition.
        scan: The scan to simulate.
        image: Which image of a file with several; None means the first.
        overwrite: Whether to replace an acquisition at ``output``.
        report: Is told how many slices are done.

    Raises:
        InputError: the image, the scan or the output is not valid; nothing is written then.
    """
    choice = image or ImageChoice()
    volume = open_image(
        image_path, volume_index=choice.volume_index, key=choice.key, voxel_mm=choice.voxel_mm
    )
    chosen = parse_range(scan.slices, volume.array.shape[0], "slices")
    normalised, intensity = apply_window(volume, scan.window)
    normalised = normalised[chosen.start : chosen.stop]
    if scan.noise.kind == "poisson":
        scale = attenuation_of_one(intensity, scan.mu_max)
        intensity = intensity.model_copy(update={"measurement_scale": scale})
    metadata = _metadata(volume, scan, intensity, chosen)
    with create_acquisition(
        output, metadata, len(chosen), with_reference=True, overwrite=overwrite
    ) as writer:
        _project(writer, normalised, scan, report)
        return writer.commit()


def scan_geometry(
    scan: Scan, image_shape: tuple[int, int], voxel_mm: tuple[float, float, float]
) -> ParallelCT:
    """The geometry of a scan of slices with ``image_shape`` (y, x); InputError if it is impossible."""
    _, y_mm, x_mm = voxel_mm
    if not math.isclose(y_mm, x_mm, rel_tol=1e-3):
        raise InputError(
            f"pixels of {y_mm:g} x {x_mm:g} mm (y, x) in a slice, expected square ones",
            "Resample the image, or give another voxel size: `voxel_mm`",
        )
    if scan.num_views < 1:
        raise InputError(f"`num_views`: found {scan.num_views}, expected at least 1")
    if not 0 < scan.angular_range_deg <= 360:
        raise InputError(f"`angular_range_deg`: found {scan.angular_range_deg:g}, expected up to 360 degrees")
    spacing = x_mm if scan.detector_spacing_mm is None else scan.detector_spacing_mm
    if not (math.isfinite(spacing) and spacing > 0):
        raise InputError(f"`detector_spacing_mm`: found {spacing:g}, expected a positive length in mm")
    num_detectors = scan.num_detectors
    if num_detectors is None:
        num_detectors = math.ceil(math.hypot(*image_shape) * x_mm / spacing)
    if num_detectors < 1:
        raise InputError(f"`num_detectors`: found {num_detectors}, expected at least 1")
    center = (num_detectors - 1) / 2 if scan.rotation_center is None else scan.rotation_center
    if not -0.5 <= center <= num_detectors - 0.5:
        raise InputError(
            f"`rotation_center`: column {center:g} lies outside the detector, which has {num_detectors}"
        )
    step = scan.angular_range_deg / scan.num_views
    return ParallelCT(
        angles_deg=tuple(view * step for view in range(scan.num_views)),
        num_detectors=num_detectors,
        detector_spacing_mm=spacing,
        rotation_center=center,
        image_shape=image_shape,
        voxel_mm=voxel_mm,
    )


def _metadata(volume: ImageVolume, scan: Scan, intensity: Intensity, chosen: range) -> AcquisitionMetadata:
    num_slices, ny, nx = volume.array.shape
    notes = [
        f"{intensity.offset:g} to {intensity.offset + intensity.scale:g} {intensity.unit}".rstrip()
        + " became 0 to 1"
        + (", clipped" if scan.window is not None else ", not clipped")
    ]
    if len(chosen) < num_slices:
        notes.append(f"slices {chosen.start} to {chosen.stop - 1} of {num_slices}")
    return AcquisitionMetadata(
        acquisition=scan_geometry(scan, (ny, nx), volume.voxel_mm),
        intensity=intensity,
        orientation=volume.orientation.from_slice(chosen.start),
        source=volume.source.noting(*notes),
    )


def _project(writer: AcquisitionWriter, image: object, scan: Scan, report: Report) -> None:
    """Measure slab by slab; with noise, a first pass finds the size of the signal."""
    geometry = writer.metadata.acquisition
    assert isinstance(geometry, ParallelCT)
    operator = build_operator(geometry)
    slice_bytes = 4 * max(math.prod(geometry.image_shape), math.prod(geometry.measurement_shape))
    steps = list(slabs(writer.num_slices, writer.shard_slices, slice_bytes))
    passes = 1 if scan.noise.kind == "none" else 2
    total = passes * writer.num_slices

    def measure(start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        x: NDArray[np.float32] = np.ascontiguousarray(image[start:stop].compute(scheduler="threads"))  # type: ignore[index]
        y: NDArray[np.float32] = operator.forward(torch.from_numpy(x)).numpy()
        return x, y * np.float32(writer.metadata.intensity.measurement_scale)

    std = 0.0
    if passes == 2:
        energies: list[float] = []
        for start, stop in steps:
            _, y = measure(start, stop)
            energies += [noise_energy(scan.noise, row) for row in y]
            report(stop, total, "measuring the signal")
        std = math.sqrt(sum(energies) / (writer.num_slices * math.prod(geometry.measurement_shape)))
    noise = describe_noise(scan.noise, std, scan.seed)
    writer.metadata = writer.metadata.model_copy(update={"noise": noise})
    for start, stop in steps:
        x, y = measure(start, stop)
        writer.write_reference(start, x)
        writer.write_measurements(start, add_noise(y, noise, start))
        report(total - writer.num_slices + stop, total, "projecting")
