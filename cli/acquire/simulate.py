"""`ddip-ray simulate IMAGE`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ..options import AsJson, Overwrite
from .options import Key, NewAcquisition, Slices, VolumeIndex, VoxelMm, make_acquisition


def simulate(
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="3D image: NIfTI, .npy, .npz, TIFF, OME-Zarr, or a folder of .npy, TIFF or DICOM slices.",
        ),
    ],
    output: NewAcquisition,
    views: Annotated[int, typer.Option(metavar="N", help="Number of projections.")],
    angular_range: Annotated[
        float,
        typer.Option(
            metavar="DEGREES", help="Angle over which the views are evenly spaced, the end excluded."
        ),
    ] = 180.0,
    noise: Annotated[
        str,
        typer.Option(
            metavar="NOISE",
            help="`none`; `gaussian:S`, with a standard deviation of S times the root mean square of the "
            "measurements; or `poisson:N`, with N photons per detector pixel and view in air.",
        ),
    ] = "none",
    mu_max: Annotated[
        float | None,
        typer.Option(
            metavar="1/MM",
            help="Attenuation in 1/mm of the intensity that becomes 1, for Poisson noise. Default: known for "
            "images in Hounsfield units or 1/mm, required for others.",
        ),
    ] = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Intensities, in the image's unit, that become 0 and 1; values outside are clipped. "
            "Default: -1000 to 1000 for Hounsfield units, otherwise the 0.1 and 99.9 percentiles without "
            "clipping.",
        ),
    ] = None,
    slices: Slices = None,
    detectors: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Number of detector columns. Default: enough for the diagonal of a slice."
        ),
    ] = None,
    detector_spacing: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Width of a detector column in mm. Default: the pixel size."),
    ] = None,
    rotation_center: Annotated[
        float | None,
        typer.Option(
            metavar="COLUMN",
            help="Detector column that the rotation axis projects to, counted from 0. Default: the middle.",
        ),
    ] = None,
    voxel_mm: VoxelMm = None,
    volume_index: VolumeIndex = 0,
    key: Key = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of the noise.")] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a sparse-view parallel-beam CT scan of a 3D image."""
    from ddip_ray.tasks.acquire.measurement_noise import parse_noise
    from ddip_ray.tasks.acquire.simulate_ct import ImageChoice, Scan
    from ddip_ray.tasks.acquire.simulate_ct import simulate as run

    scan = Scan(
        num_views=views,
        angular_range_deg=angular_range,
        noise=parse_noise(noise),
        seed=seed,
        num_detectors=detectors,
        detector_spacing_mm=detector_spacing,
        rotation_center=rotation_center,
        window=window,
        mu_max=mu_max,
        slices=slices,
    )
    choice = ImageChoice(volume_index, key, voxel_mm)
    make_acquisition(partial(run, image, output, scan, image=choice, overwrite=overwrite), output, as_json)
