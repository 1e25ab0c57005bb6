"""Filtered back-projection: a quick quantitative reconstruction, and A_dagger in all but name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.numerics.threads import one_thread
from ddip_ray.operators.base import check_shape
from ddip_ray.operators.ct.parallel_beam import ParallelBeam
from ddip_ray.operators.ct.view_table import interpolation_table

FilterName = Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"]

# Windows on the ramp over frequency f in cycles per detector column, |f| <= 1/2.
_WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "ram-lak": torch.ones_like,
    "shepp-logan": torch.sinc,
    "cosine": lambda f: torch.cos(math.pi * f),
    "hamming": lambda f: 0.54 + 0.46 * torch.cos(2 * math.pi * f),
    "hann": lambda f: 0.5 + 0.5 * torch.cos(2 * math.pi * f),
}

_MISSING_WEDGE = 5.0  # a gap this many times the median gap was not measured, however sparse the views


def filtered_backprojection(operator: ParallelBeam, y: Tensor, filter_name: FilterName = "ram-lak") -> Tensor:
    """Ramp-filter each view and smear it back, in units of the image (1/length of ``pixel_size``).

    Angles may be in any order and spacing, over 180° or more; a missing wedge (limited angle)
    contributes nothing. Not differentiable: a start image, not part of a solver.

    Args:
        operator: geometry, device and dtype; its adjoint is not used.
        y: line integrals ``(z, view, detector)``.
        filter_name: window on the ramp; from sharp to smooth as listed in ``FilterName``.

    Returns:
        ``(z, y, x)``.

    Raises:
        ValueError: wrong shape, or a filter name that does not exist.

    Source: Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), ch. 3.3.
    """
    check_shape("filtered_backprojection(y)", y.shape, operator.measurement_shape)
    if filter_name not in _WINDOWS:
        raise ValueError(
            f"filtered_backprojection: filter_name is {filter_name!r}, expected one of {get_args(FilterName)}"
        )
    filtered = ramp_filter(y.detach(), operator.geometry.detector_spacing, filter_name)
    table = interpolation_table(operator.geometry, angular_weights(operator.geometry.angles))
    return operator._backproject(filtered, table)


def ramp_filter(y: Tensor, detector_spacing: float, filter_name: FilterName) -> Tensor:
    """Convolve each row with the band-limited ramp. ``y: (..., detector)``, same shape out."""
    num_detectors = y.shape[-1]
    # Twice the length, so that the ends do not see each other around the circle.
    size = 2 ** math.ceil(math.log2(2 * num_detectors))
    response = ramp_response(size, filter_name).to(device=y.device, dtype=y.dtype) / detector_spacing
    with one_thread():
        spectrum = torch.fft.rfft(y, n=size) * response
        filtered: Tensor = torch.fft.irfft(spectrum, n=size)
    return filtered[..., :num_detectors]


def ramp_response(size: int, filter_name: FilterName) -> Tensor:
    """Transfer function of the windowed ramp at unit spacing, ``(size // 2 + 1,)`` float64.

    Transformed from its samples in space: a ramp sampled in frequency would be zero at f = 0 and
    lower the whole image (Kak and Slaney, eq. 61).
    """
    n = torch.fft.fftfreq(size, d=1 / size, dtype=torch.float64)
    kernel = torch.where(n.remainder(2) == 1, -1 / (math.pi * n.clamp(min=1.0).where(n > 0, n)) ** 2, 0.0)
    kernel[0] = 0.25
    ramp: Tensor = torch.fft.rfft(kernel).real
    return ramp * _WINDOWS[filter_name](torch.fft.rfftfreq(size, dtype=torch.float64))


def angular_weights(angles: Sequence[float]) -> NDArray[np.float64]:
    """The share of the half turn that each view stands for, ``(view,)`` in radians.

    Half the gap to either neighbour on the circle of directions (θ and θ + 180° see the same rays).
    A gap wider than 5 times the median is a wedge that nobody measured: the views at its
    edges count as if the spacing went on, or a limited-angle scan would consist of two views.
    """
    directions = np.asarray(angles, dtype=np.float64) % np.pi
    order = np.argsort(directions, kind="stable")
    gaps = np.diff(directions[order], append=directions[order[0]] + np.pi)  # from each view to the next
    real_gaps = gaps[gaps > 1e-6]  # repeated directions share one place
    median = float(np.median(real_gaps))
    gaps[gaps > _MISSING_WEDGE * median] = median
    weights = np.empty_like(gaps)
    weights[order] = (gaps + np.roll(gaps, 1)) / 2
    return weights
