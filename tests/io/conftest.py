"""What the io tests share: a small image and acquisition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddip_ray.io.stores.schema import AcquisitionMetadata, GaussianNoise, Intensity, ParallelCT, Source


@pytest.fixture
def metadata() -> AcquisitionMetadata:
    """Six views of a 10 x 12 image on 16 detectors."""
    return AcquisitionMetadata(
        acquisition=ParallelCT(
            angles_deg=(0.0, 30.0, 60.0, 90.0, 120.0, 150.0),
            num_detectors=16,
            detector_spacing_mm=1.5,
            rotation_center=7.5,
            image_shape=(10, 12),
            voxel_mm=(3.0, 1.5, 1.5),
        ),
        intensity=Intensity(scale=2000.0, offset=-1000.0, unit="HU"),
        noise=GaussianNoise(relative_std=0.01, std=0.3, seed=7),
        source=Source(name="/home/somebody/phantom.nii", format="NIfTI", history=("simulated",)),
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def volume(rng):
    """(z, y, x) = (4, 5, 6), integers that survive any format."""
    return rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a folder and its bytes, to see that nothing was touched."""
    return lambda folder: {
        str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }
