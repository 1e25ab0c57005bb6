"""Sensitivity maps by ESPIRiT, computed by sigpy."""

from __future__ import annotations

import importlib.util

import numpy as np
from numpy.typing import NDArray

KSpace = NDArray[np.complex64]

_KERNEL, _LARGEST_CENTRE, _LEAST_CENTRE = 6, 24, 12  # samples along each side
# Eigenvalue below which a map is cut off: none is, because a prior would invent what no coil sees there.
# Singular value, relative to the largest, below which it counts as noise.
_EIGENVALUE, _SINGULAR_VALUE = 0.0, 0.02


def espirit_unavailable(num_coils: int, calibration: int) -> str | None:
    """Return why ESPIRiT cannot be used here; None if it can.

    ``calibration`` is the side of the fully sampled square at the centre of k-space.
    """
    if num_coils == 1:
        return "one coil needs no sensitivity map"
    if calibration < _LEAST_CENTRE:
        return f"{calibration} x {calibration} samples at the centre, ESPIRiT needs {_LEAST_CENTRE}"
    if importlib.util.find_spec("sigpy") is None:
        return "ESPIRiT needs sigpy: pip install 'ddip-ray[mri]'"
    return None


def espirit(y: KSpace, calibration: int) -> KSpace:
    """Return the sensitivity maps of a slice, whose squares sum to 1 at each pixel.

    They are the first set of ESPIRiT (Uecker et al., ESPIRiT: An Eigenvalue Approach to Autocalibrating
    Parallel MRI, Magnetic Resonance in Medicine 2014, doi:10.1002/mrm.24751), computed by sigpy.

    Args:
        y: k-space, (coil, ky, kx).
        calibration: side of the fully sampled square at the centre.

    Returns:
        Maps, (coil, y, x).
    """
    import sigpy.mri

    size = min(calibration, _LARGEST_CENTRE)
    app = sigpy.mri.app.EspiritCalib(
        y, size, _SINGULAR_VALUE, min(_KERNEL, size), _EIGENVALUE, show_pbar=False
    )  # fmt: skip
    maps: KSpace = app.run().astype(np.complex64)
    return maps
