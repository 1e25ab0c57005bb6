"""`ddip-ray import-mri FILE`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ..options import AsJson, Overwrite
from .options import Calibration, Key, NewAcquisition, Pattern, Slices, VoxelMm, make_acquisition


def import_mri(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Measured k-space: fastMRI HDF5, ISMRMRD, twix, MATLAB, .npz or .npy."
        ),
    ],
    output: NewAcquisition,
    key: Key = None,
    axes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Axes of the array in their order, for example ky,kx,z. Default: z,coil,ky,kx; or "
            "z,coil,readout,sample if the file has an array `trajectory` of shape ([z,] readout, sample, 2).",
        ),
    ] = None,
    slices: Slices = None,
    transform_z: Annotated[
        bool,
        typer.Option(
            "--transform-z", help="Treat z as a fully sampled axis of k-space and transform it into slices."
        ),
    ] = False,
    acceleration: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Keep only 1/R of the samples, chosen by --pattern, to simulate a faster scan. Default: "
            "keep all.",
        ),
    ] = None,
    pattern: Pattern = "uniform1d",
    calibration: Calibration = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of the pattern.")] = 0,
    maps: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Coil sensitivity maps: `espirit`, estimated now and stored; `low-resolution`, estimated "
            "from the centre of k-space at each reconstruction; `auto`, espirit where the calibration data "
            "allow it.",
        ),
    ] = "auto",
    whiten: Annotated[
        bool,
        typer.Option(
            help="Whiten the coils: make their noise equal and uncorrelated, from a noise scan in the file."
        ),
    ] = True,
    compress_coils: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Compress the coils to N virtual coils. Default: keep the coils as they are."
        ),
    ] = None,
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="NY NX", help="Image size in pixels; required for k-space along a trajectory only."
        ),
    ] = None,
    voxel_mm: VoxelMm = None,
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE",
            help="Image magnitude that becomes 1. Default: the 99.9 percentile of the zero-filled image.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import measured MRI data (k-space).

    On a Cartesian grid, samples that are 0 in every coil count as not sampled.
    """
    from ddip_ray.tasks.acquire.coils import CoilChoice, parse_maps
    from ddip_ray.tasks.acquire.import_mri import KSpaceChoice
    from ddip_ray.tasks.acquire.import_mri import import_mri as run
    from ddip_ray.tasks.acquire.measured_kspace import Undersampling
    from ddip_ray.tasks.acquire.simulate_mri import parse_pattern

    chosen = parse_pattern(pattern)
    fewer = None if acceleration is None else Undersampling(acceleration, chosen, calibration, seed)
    choice = KSpaceChoice(key, axes, slices, transform_z, voxel_mm, scale, image_size)
    coils = CoilChoice(parse_maps(maps), whiten, compress_coils)
    make_acquisition(partial(run, file, output, choice, fewer, coils, overwrite=overwrite), output, as_json)
