"""Measured k-space into an acquisition store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.acquisition import Acquisition, create_acquisition
from ddip_ray.io.kspace_files import read_kspace
from ddip_ray.io.raw_kspace import centred
from ddip_ray.io.schema import (
    SAMPLING_MASK,
    SENSITIVITY_MAPS,
    AcquisitionMetadata,
    CartesianMRI,
    Intensity,
    MeasuredNoise,
    Orientation,
    Pattern,
    Sampling,
    Source,
)
from ddip_ray.operators.coil_sensitivity import calibration_size
from ddip_ray.operators.espirit import KSpace, espirit, why_not_espirit
from ddip_ray.operators.sampling_mask import default_calibration, sampling_mask
from ddip_ray.tasks.coils import CoilChoice, MapsName, estimate_noise, mixing
from ddip_ray.tasks.progress import Report, silent
from ddip_ray.tasks.slices import parse_range

MAX_SLICES = 8  # that scale and noise are estimated from
_BRIGHTEST = 99.9  # percentile of the zero-filled image that becomes 1


@dataclass(frozen=True)
class KSpaceChoice:
    """What in the file is used and how it is read; see `read_kspace`. Voxel in mm (z, y, x)."""

    key: str | None = None
    axes: str | None = None
    slices: str | None = None
    transform_z: bool = False
    voxel_mm: tuple[float, float, float] | None = None
    scale: float | None = None


@dataclass(frozen=True)
class Undersampling:
    """Samples to keep of those that were taken, to try what fewer would do. ``calibration`` None: 8 %."""

    acceleration: float
    pattern: Pattern = "uniform1d"
    calibration: int | None = None
    seed: int = 0


def import_mri(
    path: str,
    output: str,
    choice: KSpaceChoice | None = None,
    undersampling: Undersampling | None = None,
    coils: CoilChoice | None = None,
    *,
    overwrite: bool = False,
    report: Report = silent,
) -> Acquisition:
    """Read k-space and write it to ``output``, a shard at a time. What is 0 in every coil was not sampled.

    Raises:
        InputError: the file, a choice or the output is not what it should be; nothing is written then.
    """
    choice, coils = choice or KSpaceChoice(), coils or CoilChoice()
    raw = read_kspace(Path(path), choice.key, choice.axes)
    data, history = raw.data, list(raw.history)
    if choice.transform_z:
        along_z = data.rechunk((-1, *(1 if i == 0 else -1 for i in range(3))))
        data = along_z.map_blocks(lambda block: centred(np.fft.ifft, block, 0).astype(np.complex64))
        history.append("inverse Fourier transform along z")
    chosen = parse_range(choice.slices, data.shape[0], "slices")
    data = data[chosen.start : chosen.stop].rechunk((1, -1, -1, -1))
    num_slices, _, ny, nx = data.shape
    sampling, kept = Sampling(pattern="given"), None
    if undersampling is not None:
        sampling, kept = _undersampled(undersampling, (ny, nx))
    some = _some_slices(path, data, kept, chosen.start)
    mix = mixing(some, coils, raw.noise)
    history += mix.notes
    some = mix(some)
    num_coils = len(mix.matrix)
    finds_maps = _finds_maps(some, coils.maps, history)
    scale = choice.scale if choice.scale is not None else estimate_scale(some)
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"{path}: brightest value {scale:g}, expected a positive one", "Give --scale")
    voxel = choice.voxel_mm or raw.voxel_mm
    if voxel is None:
        voxel = (1.0, 1.0, 1.0)
        history.append("the file has no voxel size: 1 mm assumed")
    # Where voxels lie hangs on how large they are.
    orientation = raw.orientation if choice.voxel_mm is None else Orientation()
    metadata = AcquisitionMetadata(
        acquisition=CartesianMRI(
            num_coils=num_coils, image_shape=(ny, nx), voxel_mm=voxel, sampling=sampling
        ),
        intensity=Intensity(scale=scale, measurement_scale=scale),
        noise=MeasuredNoise(std=estimate_noise(some)),
        orientation=orientation.from_slice(chosen.start),
        source=Source(name=path, format=raw.format, history=tuple(history)),
    )
    with create_acquisition(
        output,
        metadata,
        num_slices,
        with_reference=False,
        with_sensitivity_maps=finds_maps,
        overwrite=overwrite,
    ) as writer:
        for start in range(0, num_slices, writer.shard_slices):
            stop = min(start + writer.shard_slices, num_slices)
            y = data[start:stop].compute(scheduler="threads")
            first = chosen.start + start  # in the file
            _require_finite(path, y, range(first, first + len(y)))
            mask = sampled(y) if kept is None else sampled(y) & kept
            if not mask.any(axis=(1, 2)).all():
                empty = first + int(np.argmin(mask.any(axis=(1, 2))))
                raise InputError(f"{path}: slice {empty} has no sample", "Leave it out with --slices")
            y = mix(np.where(mask[:, None], y, 0))
            writer.write_measurements(start, y)
            writer.write(SAMPLING_MASK, start, mask)
            if finds_maps:
                writer.write(SENSITIVITY_MAPS, start, _maps(path, first, y, mask))
            report(stop, num_slices, "importing")
        return writer.commit()


def sampled(y: NDArray[np.complex64]) -> NDArray[np.bool_]:
    """Where any coil has a sample: (z, coil, ky, kx) to (z, ky, kx)."""
    taken: NDArray[np.bool_] = (y != 0).any(axis=1)
    return taken


def estimate_scale(y: NDArray[np.complex64]) -> float:
    """The brightest value, nearly, of the zero-filled image, all coils together: (z, coil, ky, kx)."""
    images = centred(np.fft.ifft, centred(np.fft.ifft, y, 2), 3)
    return float(np.percentile(np.sqrt(np.square(np.abs(images)).sum(axis=1)), _BRIGHTEST))


def _finds_maps(y: KSpace, name: MapsName, history: list[str]) -> bool:
    """Whether ESPIRiT shall find the maps, judged by some slices (z, coil, ky, kx)."""
    if name == "low-resolution":
        return False
    calibration = min(calibration_size(torch.from_numpy(mask).float()) for mask in sampled(y))
    hindrance = why_not_espirit(y.shape[1], calibration)
    if hindrance is None:
        history.append("sensitivity maps by ESPIRiT")
        return True
    if name == "espirit":
        raise InputError(f"--maps espirit: {hindrance}", "Use --maps low-resolution")
    history.append(f"no sensitivity maps ({hindrance})")
    return False


def _maps(path: str, start: int, y: KSpace, masks: NDArray[np.bool_]) -> KSpace:
    """Of some slices, (z, coil, y, x), the first of which is slice ``start``."""
    found = []
    for z, (own, mask) in enumerate(zip(y, masks, strict=True), start=start):
        calibration = calibration_size(torch.from_numpy(mask).float())
        hindrance = why_not_espirit(len(own), calibration)
        if hindrance is not None:
            raise InputError(f"{path}: slice {z}: {hindrance}", "Use --maps low-resolution")
        found.append(espirit(own, calibration))
    return np.stack(found)


def _undersampled(u: Undersampling, image_shape: tuple[int, int]) -> tuple[Sampling, NDArray[np.bool_]]:
    calibration = default_calibration(image_shape) if u.calibration is None else u.calibration
    try:
        mask = sampling_mask(u.pattern, image_shape, u.acceleration, calibration, u.seed)
    except ValueError as error:
        raise InputError(f"undersampling: {error}") from error
    sampling = Sampling(pattern=u.pattern, acceleration=u.acceleration, calibration=calibration, seed=u.seed)
    return sampling, mask


def _some_slices(path: str, data: Any, kept: NDArray[np.bool_] | None, first: int) -> KSpace:
    """Up to `MAX_SLICES` of the slices, of which the ``first`` has this number in the file."""
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), MAX_SLICES)).round().astype(int))
    y: KSpace = data[rows].compute(scheduler="threads")
    _require_finite(path, y, first + rows)
    return y if kept is None else y * kept


def _require_finite(path: str, y: KSpace, slices: Iterable[int]) -> None:
    for z, samples in zip(slices, y, strict=True):
        if not np.isfinite(samples).all():
            raise InputError(
                f"{path}: slice {z} has samples that are NaN or infinite", "Set what was not sampled to 0"
            )
