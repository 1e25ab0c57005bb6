"""`ddip-ray simulate-mri IMAGE`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ..options import AsJson, Overwrite
from .options import (
    Calibration,
    Key,
    NewAcquisition,
    Pattern,
    Slices,
    VolumeIndex,
    VoxelMm,
    make_acquisition,
)


def simulate_mri(
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="3D magnitude image: NIfTI, .npy, .npz, TIFF, OME-Zarr, or a folder of .npy, TIFF or DICOM "
            "slices.",
        ),
    ],
    output: NewAcquisition,
    acceleration: Annotated[
        float,
        typer.Option(
            metavar="R",
            help="Nominal acceleration: all samples over the samples taken; for `uniform1d` the distance of "
            "the lines, to which the calibration lines are added.",
        ),
    ],
    pattern: Pattern = "uniform1d",
    calibration: Calibration = None,
    coils: Annotated[
        int, typer.Option(metavar="N", help="Number of receive coils, placed on a ring, with smooth maps.")
    ] = 8,
    mask_per_slice: Annotated[
        bool,
        typer.Option(
            "--mask-per-slice",
            help="Draw a random pattern anew for every slice; with --off-grid, rotate the readouts from "
            "slice to slice.",
        ),
    ] = False,
    off_grid: Annotated[
        bool,
        typer.Option(
            "--off-grid",
            help="Sample radial or spiral readouts at their true positions instead of the nearest grid "
            "points.",
        ),
    ] = False,
    phase: Annotated[bool, typer.Option(help="Give the image a smooth random phase, or none.")] = True,
    noise: Annotated[
        str,
        typer.Option(
            metavar="NOISE",
            help="`none` or `gaussian:S`, complex noise with a standard deviation of S times the root mean "
            "square of the samples taken.",
        ),
    ] = "none",
    brightest: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE",
            help="Intensity, in the image's unit, that becomes 1. Default: the 99.9 percentile.",
        ),
    ] = None,
    slices: Slices = None,
    voxel_mm: VoxelMm = None,
    volume_index: VolumeIndex = 0,
    key: Key = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Random seed of pattern, coils, phase and noise.")
    ] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate an accelerated MRI scan of a 3D image."""
    from ddip_ray.tasks.acquire.kspace_scan import KSpaceScan
    from ddip_ray.tasks.acquire.measurement_noise import parse_noise
    from ddip_ray.tasks.acquire.simulate_ct import ImageChoice
    from ddip_ray.tasks.acquire.simulate_mri import parse_pattern
    from ddip_ray.tasks.acquire.simulate_mri import simulate_mri as run

    scan = KSpaceScan(
        pattern=parse_pattern(pattern),
        acceleration=acceleration,
        calibration=calibration,
        num_coils=coils,
        mask_per_slice=mask_per_slice,
        off_grid=off_grid,
        phase=phase,
        noise=parse_noise(noise),
        seed=seed,
        brightest=brightest,
        slices=slices,
    )
    choice = ImageChoice(volume_index, key, voxel_mm)
    make_acquisition(partial(run, image, output, scan, image=choice, overwrite=overwrite), output, as_json)
