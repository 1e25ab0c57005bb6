"""Import of measured k-space into an acquisition store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.io.kspace.open import read_kspace
from ddip_ray.io.kspace.raw import centred
from ddip_ray.io.stores.acquisition import Acquisition, create_acquisition
from ddip_ray.io.stores.schema import (
    SENSITIVITY_MAPS,
    AcquisitionMetadata,
    Intensity,
    MeasuredNoise,
    Orientation,
    Source,
)
from ddip_ray.operators.mri.espirit import KSpace, espirit, espirit_unavailable
from ddip_ray.tasks.acquire.coils import CoilChoice, MapsName, mixing
from ddip_ray.tasks.acquire.measured_kspace import (
    CartesianSamples,
    MeasuredKSpace,
    NonCartesianSamples,
    Taken,
    Undersampling,
)
from ddip_ray.tasks.progress import Report, silent
from ddip_ray.tasks.slices import parse_range

MAX_SLICES = 8  # scale and noise are estimated from so few slices
_BRIGHTEST = 99.9  # percentile of the zero-filled image that becomes 1


@dataclass(frozen=True)
class KSpaceChoice:
    """Which part of a k-space file is used, and how it is read.

    Attributes:
        key: Which array of the file, as for `read_kspace`.
        axes: Names of its axes, as for `read_kspace`.
        slices: Range of slices, for example ``"10:34"``; None means all.
        transform_z: Whether the first axis is kz, which is transformed to slices.
        voxel_mm: Voxel size (z, y, x) in mm; None takes the file's.
        scale: Brightness that becomes 1; None estimates it.
        image_size: Pixels (y, x) of the image, for k-space along a trajectory.
    """

    key: str | None = None
    axes: str | None = None
    slices: str | None = None
    transform_z: bool = False
    voxel_mm: tuple[float, float, float] | None = None
    scale: float | None = None
    image_size: tuple[int, int] | None = None


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
    """Write a k-space file as an acquisition, a shard at a time.

    Args:
        path: The k-space file. In Cartesian k-space, a 0 in every coil is a sample that was not taken.
        output: Path of the new acquisition.
        choice: Which part of the file is used, and how it is read; None means all of it as it says.
        undersampling: Samples to leave out, in order to try a faster scan; None keeps all.
        coils: Whitening, compression and sensitivity maps; None means `CoilChoice()`.
        overwrite: Whether to replace an acquisition at ``output``.
        report: Is told how many slices are done.

    Raises:
        InputError: the file, a choice or the output is not valid; nothing is written then.
    """
    choice, coils = choice or KSpaceChoice(), coils or CoilChoice()
    raw = read_kspace(Path(path), choice.key, choice.axes)
    data, history = raw.data, list(raw.history)
    if choice.transform_z:
        if raw.trajectory is not None and len(raw.trajectory) > 1:
            raise InputError(f"{path}: `transform_z` needs one trajectory for all of z")
        along_z = data.rechunk((-1, *(1 if i == 0 else -1 for i in range(3))))
        data = along_z.map_blocks(lambda block: centred(np.fft.ifft, block, 0).astype(np.complex64))
        history.append("inverse Fourier transform along z")
    chosen = parse_range(choice.slices, data.shape[0], "slices")
    data = data[chosen.start : chosen.stop].rechunk((1, -1, -1, -1))
    kind: MeasuredKSpace
    if raw.trajectory is None:
        if choice.image_size is not None:
            raise InputError("`image_size` goes with a trajectory", "Leave it out")
        kind = CartesianSamples(path, data.shape[2:], undersampling)
    else:
        kind = NonCartesianSamples(path, raw, choice.image_size, undersampling)
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), MAX_SLICES)).round().astype(int))
    some, taken = _read(path, kind, data, chosen, rows)
    mix = mixing(some, coils, raw.noise)
    history += mix.notes
    some = mix(some)
    num_coils = len(mix.matrix)
    finds_maps = _finds_maps(num_coils, min(map(kind.centre_size, taken)), coils.maps, history)
    scale = choice.scale if choice.scale is not None else brightest(kind.images(some, taken))
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"{path}: brightest value {scale:g}, expected a positive one", "Give a `scale`")
    voxel = choice.voxel_mm or raw.voxel_mm
    if voxel is None:
        voxel = (1.0, 1.0, 1.0)
        history.append("the file has no voxel size: 1 mm assumed")
    # the file's orientation holds only for the file's own voxel size and image size
    as_in_file = choice.voxel_mm is None and choice.image_size is None
    orientation = raw.orientation if as_in_file else Orientation()
    metadata = AcquisitionMetadata(
        acquisition=kind.geometry(num_coils, voxel),
        intensity=Intensity(scale=scale, measurement_scale=scale),
        noise=MeasuredNoise(std=kind.noise(some, taken)),
        orientation=orientation.from_slice(chosen.start),
        source=Source(name=path, format=raw.format, history=tuple(history)),
    )
    with create_acquisition(
        output,
        metadata,
        len(data),
        with_reference=False,
        with_sensitivity_maps=finds_maps,
        overwrite=overwrite,
    ) as writer:
        for start in range(0, len(data), writer.shard_slices):
            stop = min(start + writer.shard_slices, len(data))
            y, taken = _read(path, kind, data, chosen, np.arange(start, stop))
            y = mix(y)
            writer.write_measurements(start, y)
            writer.write(kind.taken_name, start, taken)
            if finds_maps:
                writer.write(SENSITIVITY_MAPS, start, _maps(path, kind, chosen[start], y, taken))
            report(stop, len(data), "importing")
        return writer.commit()


def brightest(images: KSpace) -> float:
    """The 99.9th percentile of the root sum of squares of coil images (z, coil, y, x)."""
    return float(np.percentile(np.sqrt(np.square(np.abs(images)).sum(axis=1)), _BRIGHTEST))


def _read(
    path: str, kind: MeasuredKSpace, data: Any, chosen: range, rows: NDArray[np.int64]
) -> tuple[KSpace, Taken]:
    """The samples of some slices as they will be stored, and which samples were taken."""
    y: KSpace = data[rows].compute(scheduler="threads")
    numbers = [chosen[row] for row in rows]  # slices as the file counts them
    for z, samples in zip(numbers, y, strict=True):
        if not np.isfinite(samples).all():
            raise InputError(f"{path}: slice {z} has samples that are NaN or infinite", kind.remedy)
    return kind.kept(y, numbers)


def _finds_maps(num_coils: int, calibration: int, name: MapsName, history: list[str]) -> bool:
    """Whether ESPIRiT finds the maps; ``history`` is told what was decided."""
    if name == "low-resolution":
        return False
    hindrance = espirit_unavailable(num_coils, calibration)
    if hindrance is None:
        history.append("sensitivity maps by ESPIRiT")
        return True
    if name == "espirit":
        raise InputError(f'`maps="espirit"`: {hindrance}', 'Use `maps="low-resolution"`')
    history.append(f"no sensitivity maps ({hindrance})")
    return False


def _maps(path: str, kind: MeasuredKSpace, first: int, y: KSpace, taken: Taken) -> KSpace:
    """The maps (z, coil, y, x) of some slices, the first of which is slice ``first``."""
    found = []
    for z, (own, where) in enumerate(zip(y, taken, strict=True), start=first):
        centre, size = kind.centre(own, where)
        hindrance = espirit_unavailable(len(own), size)
        if hindrance is not None:
            raise InputError(f"{path}: slice {z}: {hindrance}", 'Use `maps="low-resolution"`')
        found.append(espirit(centre, size))
    return np.stack(found)
