"""Sensitivity maps by ESPIRiT, through sigpy."""

from __future__ import annotations

import importlib.util

import numpy as np
from numpy.typing import NDArray

KSpace = NDArray[np.complex64]

_KERNEL, _LARGEST_CENTRE, _LEAST_CENTRE = 6, 24, 12  # samples along each side
# Of an eigenvalue, below which a map ends: where no coil sees, a prior invents. Of a singular value, to the
# largest.
_EIGENVALUE, _SINGULAR_VALUE = 0.0, 0.02


def espirit_unavailable(num_coils: int, calibration: int) -> str | None:
    """What stands in its way; ``calibration`` is the side of the fully sampled square at the centre."""
    if num_coils == 1:
        return "one coil needs no sensitivity map"
    if calibration < _LEAST_CENTRE:
        return f"{calibration} x {calibration} samples at the centre, ESPIRiT needs {_LEAST_CENTRE}"
    if importlib.util.find_spec("sigpy") is None:
        return "ESPIRiT needs sigpy: pip install 'ddip-ray[mri]'"
    return None


def espirit(y: KSpace, calibration: int) -> KSpace:
    """Sensitivity maps (coil, y, x) of a slice (coil, ky, kx); their squares add up to 1 at each pixel.

    ESPIRiT's first set (Uecker et al. 2014, doi:10.1002/mrm.24751), by sigpy.
    """
    import sigpy.mri

    size = min(calibration, _LARGEST_CENTRE)
    app = sigpy.mri.app.EspiritCalib(
        y, size, _SINGULAR_VALUE, min(_KERNEL, size), _EIGENVALUE, show_pbar=False
    )  # fmt: skip
    maps: KSpace = app.run().astype(np.complex64)
    return maps
