"""Simulation of an accelerated MRI scan of an image, slab by slab."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ddip_ray.config.names import SamplingPattern
from ddip_ray.errors import InputError
from ddip_ray.io.images.open import choose_window, normalise, open_image
from ddip_ray.io.stores.acquisition import Acquisition, AcquisitionWriter, create_acquisition
from ddip_ray.io.stores.schema import (
    SENSITIVITY_MAPS,
    AcquisitionMetadata,
    GaussianNoise,
)
from ddip_ray.operators.mri.kspace_centre import centre_size
from ddip_ray.operators.mri.nufft import nufft_unavailable
from ddip_ray.operators.mri.sampling_mask import PATTERNS, default_calibration
from ddip_ray.operators.mri.sensitivity_maps import LEAST_CALIBRATION
from ddip_ray.operators.mri.trajectory import trajectory
from ddip_ray.tasks.acquire.kspace_scan import CartesianScan, KSpaceScan, NonCartesianScan, ScanSimulator
from ddip_ray.tasks.acquire.measurement_noise import describe_noise
from ddip_ray.tasks.acquire.simulate_ct import ImageChoice
from ddip_ray.tasks.progress import Report, silent
from ddip_ray.tasks.slices import parse_range, slabs


def simulate_mri(
    image_path: str,
    output: str,
    scan: KSpaceScan,
    *,
    image: ImageChoice | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> Acquisition:
    """Simulate an MRI scan of a magnitude image and write it as an acquisition.

    The acquisition holds k-space, the mask or trajectory, sensitivity maps and the reference image.

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
    num_slices, ny, nx = volume.array.shape
    chosen = parse_range(scan.slices, num_slices, "slices")
    calibration = default_calibration((ny, nx)) if scan.calibration is None else scan.calibration
    _check(scan, calibration, (ny, nx))
    if scan.off_grid:
        _check_off_grid(scan, (ny, nx))
    brightest = scan.brightest or choose_window(volume)[1]
    normalised, intensity = normalise(volume, (0.0, brightest), clip=False)
    notes = [f"0 to {brightest:g} {volume.unit}".rstrip() + " became 0 to 1, not clipped"]
    if scan.phase:
        notes.append("a smooth random phase was put on it")
    if len(chosen) < num_slices:
        notes.append(f"slices {chosen.start} to {chosen.stop - 1} of {num_slices}")
    kind = NonCartesianScan if scan.off_grid else CartesianScan
    simulator = kind(scan, calibration, normalised, chosen, (num_slices, ny, nx))
    metadata = AcquisitionMetadata(
        acquisition=simulator.geometry(volume.voxel_mm),
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
        _write(writer, simulator, report)
        return writer.commit()


def parse_pattern(text: str) -> SamplingPattern:
    """The sampling pattern with the name ``text``; InputError for an unknown one."""
    for pattern in PATTERNS:
        if text == pattern:
            return pattern
    raise InputError(f"`pattern`: found {text!r}, expected one of {', '.join(PATTERNS)}")


def _check(scan: KSpaceScan, calibration: int, image_shape: tuple[int, int]) -> None:
    if not (math.isfinite(scan.acceleration) and scan.acceleration >= 1):
        raise InputError(f"`acceleration`: found {scan.acceleration:g}, expected 1 or more")
    if not 0 <= calibration <= min(image_shape):
        raise InputError(f"`calibration`: found {calibration}, expected 0 to {min(image_shape)}")
    if scan.num_coils < 1:
        raise InputError(f"`num_coils`: found {scan.num_coils}, expected at least 1")
    if scan.noise.kind == "poisson":
        raise InputError(
            "poisson noise counts photons, of which MRI has none", "Use `noise=gaussian:RELATIVE_STD`"
        )
    if scan.brightest is not None and not (math.isfinite(scan.brightest) and scan.brightest > 0):
        raise InputError(f"`brightest`: found {scan.brightest:g}, expected a positive value")


def _check_off_grid(scan: KSpaceScan, image_shape: tuple[int, int]) -> None:
    if scan.pattern not in ("radial", "spiral"):
        raise InputError(f"`off_grid`: pattern {scan.pattern}, expected radial or spiral")
    if scan.calibration is not None:
        raise InputError("`calibration` is for k-space on the grid", "Leave it out, or leave out `off_grid`")
    if hindrance := nufft_unavailable():
        raise InputError(f"`off_grid`: {hindrance}")
    path = torch.from_numpy(trajectory(scan.pattern, image_shape, scan.acceleration))
    if (size := centre_size(path, image_shape)) < LEAST_CALIBRATION:
        raise InputError(
            f"`acceleration` {scan.acceleration:g} fills {size} x {size} samples at the centre of k-space, "
            f"expected {LEAST_CALIBRATION} x {LEAST_CALIBRATION}, which the phase is taken from",
            "Lower it",
        )


def _write(writer: AcquisitionWriter, simulator: ScanSimulator, report: Report) -> None:
    geometry = writer.metadata.acquisition
    slice_bytes = 8 * math.prod(geometry.measurement_shape)
    steps = list(slabs(writer.num_slices, writer.shard_slices, slice_bytes))
    request = simulator.scan.noise
    total = writer.num_slices * (1 if request.kind == "none" else 2)
    if request.kind != "none":
        energies: list[float] = []
        count = 0
        for start, stop in steps:
            y = simulator.kspace(start, stop)
            energies += [float(np.square(np.abs(row), dtype=np.float64).sum()) for row in y]
            count += (
                2
                * geometry.measurement_shape[0]
                * int(simulator.is_taken(simulator.taken(start, stop)).sum())
            )
            report(stop, total, "measuring the signal")
        noise = describe_noise(request, request.level * math.sqrt(sum(energies) / count), simulator.scan.seed)
        writer.metadata = writer.metadata.model_copy(update={"noise": noise})
    for start, stop in steps:
        taken, y = simulator.taken(start, stop), simulator.kspace(start, stop)
        noisy = _noisy(y, simulator.is_taken(taken), writer.metadata.noise, start)
        writer.write_measurements(start, noisy)
        writer.write(simulator.taken_name, start, taken)
        writer.write_reference(start, simulator.images(start, stop))
        if SENSITIVITY_MAPS in writer.names:
            writer.write(SENSITIVITY_MAPS, start, simulator.maps(start, stop))
        report(total - writer.num_slices + stop, total, "sampling k-space")


def _noisy(
    y: NDArray[np.complex64], mask: NDArray[np.bool_], noise: object, start: int
) -> NDArray[np.complex64]:
    """K-space with white noise in the samples that are taken, keyed by seed and slice."""
    if not isinstance(noise, GaussianNoise):
        return y
    out = y.copy()
    for row in range(len(y)):
        generator = np.random.default_rng([noise.seed, start + row])
        parts = generator.standard_normal((*y.shape[1:], 2), dtype=np.float32)
        out[row] += np.float32(noise.std) * mask[row] * parts.view(np.complex64)[..., 0]
    return out
