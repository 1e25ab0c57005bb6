"""`ddip-ray import-mri FILE`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import AsJson, NewAcquisition, Overwrite, VoxelMm
from .output import print_acquisition, progress


def import_mri(
    file: Annotated[str, typer.Argument(help="k-space: fastMRI, ISMRMRD, twix, MATLAB, npz or npy.")],
    output: NewAcquisition,
    key: Annotated[str | None, typer.Option(help="Which array. Default: the only complex one.")] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Its axes in their order, e.g. ky,kx,z. Default: z,coil,ky,kx, or z,coil,readout,sample "
            "where an array `trajectory` ([z,] readout, sample, 2) stands beside it."
        ),
    ] = None,
    slices: Annotated[str | None, typer.Option(metavar="START:STOP", help="Slices to use.")] = None,
    transform_z: Annotated[
        bool,
        typer.Option("--transform-z", help="z is a fully sampled axis of k-space: transform it into slices."),
    ] = False,
    acceleration: Annotated[
        float | None, typer.Option(help="Keep fewer of the samples, to try what fewer would do.")
    ] = None,
    pattern: Annotated[str, typer.Option(help="Which to keep; see simulate-mri.")] = "uniform1d",
    calibration: Annotated[
        int | None,
        typer.Option(
            help="Lines, or side of the square, kept in full at the centre. Default: 8 % of the lines."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of a random pattern.")] = 0,
    maps: Annotated[
        str,
        typer.Option(
            help="Coil sensitivities: espirit, kept in the store; low-resolution, found when reconstructing; "
            "auto: espirit where it can be."
        ),
    ] = "auto",
    whiten: Annotated[
        bool,
        typer.Option(help="Make the coils' noise equal and independent, by a noise scan in the file."),
    ] = True,
    compress_coils: Annotated[
        int | None, typer.Option(help="Combine the coils into so many. Default: keep all.")
    ] = None,
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="NY NX", help="Pixels of a slice, for k-space along a trajectory."),
    ] = None,
    voxel_mm: VoxelMm = None,
    scale: Annotated[
        float | None, typer.Option(help="Value that becomes 1. Default: the zero-filled image's brightest.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import measured k-space. On the grid, what is 0 in every coil counts as not sampled."""
    from ddip_ray.tasks.acquire.coils import CoilChoice, parse_maps
    from ddip_ray.tasks.acquire.import_mri import KSpaceChoice
    from ddip_ray.tasks.acquire.import_mri import import_mri as run
    from ddip_ray.tasks.acquire.measured_kspace import Undersampling
    from ddip_ray.tasks.acquire.simulate_mri import parse_pattern

    chosen = parse_pattern(pattern)
    fewer = None if acceleration is None else Undersampling(acceleration, chosen, calibration, seed)
    choice = KSpaceChoice(key, axes, slices, transform_z, voxel_mm, scale, image_size)
    coils = CoilChoice(parse_maps(maps), whiten, compress_coils)
    with progress("slices") as report:
        run(file, output, choice, fewer, coils, overwrite=overwrite, report=report)
    print_acquisition(output, as_json)
