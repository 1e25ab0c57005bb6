"""`ddip-ray simulate-mri IMAGE`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import AsJson, NewAcquisition, NpzKey, Overwrite, VolumeIndex, VoxelMm
from .output import print_acquisition, progress


def simulate_mri(
    image: Annotated[
        str,
        typer.Argument(help="A magnitude image: NIfTI, .npy, .npz, TIFF, OME-Zarr, or a folder of slices."),
    ],
    output: NewAcquisition,
    acceleration: Annotated[float, typer.Option(help="Nominal acceleration.")],
    pattern: Annotated[
        str,
        typer.Option(
            help="Lines: uniform1d (every so many), random1d (any; the papers' uniform 1D), gaussian1d "
            "(denser at the centre). Points: gaussian2d, poisson, radial, spiral. Or full."
        ),
    ] = "uniform1d",
    calibration: Annotated[
        int | None,
        typer.Option(
            help="Lines, or side of the square, fully sampled at the centre. Default: 8 % of the lines."
        ),
    ] = None,
    coils: Annotated[int, typer.Option(help="Receive coils, smooth ones on a ring.")] = 8,
    mask_per_slice: Annotated[
        bool,
        typer.Option(
            "--mask-per-slice",
            help="Draw a random pattern anew for every slice; turn off-grid readouts from slice to slice.",
        ),
    ] = False,
    off_grid: Annotated[
        bool,
        typer.Option(
            "--off-grid", help="Radial or spiral readouts where they go, not on the nearest grid points."
        ),
    ] = False,
    phase: Annotated[bool, typer.Option(help="Whether a smooth random phase is put on the image.")] = True,
    noise: Annotated[
        str,
        typer.Option(help="none or gaussian:S (std over the root mean square of the samples taken)."),
    ] = "none",
    brightest: Annotated[
        float | None, typer.Option(help="Intensity that becomes 1. Default: the 99.9 percentile.")
    ] = None,
    slices: Annotated[str | None, typer.Option(metavar="START:STOP", help="Slices to scan.")] = None,
    voxel_mm: VoxelMm = None,
    volume_index: VolumeIndex = 0,
    key: NpzKey = None,
    seed: Annotated[int, typer.Option(help="Of mask, coils, phase and noise.")] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate accelerated MRI of a 3D image, with one coil or several."""
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
    with progress("slices") as report:
        run(
            image,
            output,
            scan,
            image=ImageChoice(volume_index, key, voxel_mm),
            overwrite=overwrite,
            report=report,
        )
    print_acquisition(output, as_json)
