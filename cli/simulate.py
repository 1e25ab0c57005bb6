"""`ddip-ray simulate IMAGE`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import AsJson, NewAcquisition, NpzKey, Overwrite, VolumeIndex, VoxelMm
from .output import print_acquisition, progress


def simulate(
    image: Annotated[
        str,
        typer.Argument(help="NIfTI, .npy, .npz, TIFF, OME-Zarr, or a folder of .npy, TIFF or DICOM slices."),
    ],
    output: NewAcquisition,
    views: Annotated[int, typer.Option(help="Number of projections.")],
    angular_range: Annotated[float, typer.Option(help="Degrees they span, the end left out.")] = 180.0,
    noise: Annotated[
        str,
        typer.Option(
            help="none, gaussian:S (std over the root mean square of the signal) or poisson:PHOTONS."
        ),
    ] = "none",
    mu_max: Annotated[
        float | None, typer.Option(help="Attenuation in 1/mm of the brightest value, for Poisson noise.")
    ] = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Intensities that become 0 and 1; what lies outside is clipped. Default: HU -1000 to 1000, "
            "other images their 0.1 and 99.9 percentiles, nothing clipped.",
        ),
    ] = None,
    slices: Annotated[str | None, typer.Option(metavar="START:STOP", help="Slices to scan.")] = None,
    detectors: Annotated[
        int | None, typer.Option(help="Detector columns. Default: the slice's diagonal.")
    ] = None,
    detector_spacing: Annotated[float | None, typer.Option(help="In mm. Default: the pixel size.")] = None,
    rotation_center: Annotated[
        float | None, typer.Option(help="Detector column of the rotation axis, from 0. Default: the middle.")
    ] = None,
    voxel_mm: VoxelMm = None,
    volume_index: VolumeIndex = 0,
    key: NpzKey = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a sparse-view parallel-beam scan of a 3D image."""
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
