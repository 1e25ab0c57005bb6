"""Filtered back-projection, the direct inverse of the parallel-beam transform."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.numerics.threads import one_thread
from ddip_ray.operators.base import check_shape
from ddip_ray.operators.ct.view_table import interpolation_table

if TYPE_CHECKING:
    from ddip_ray.operators.ct.parallel_beam import ParallelBeam

FilterName = Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"]

# Windows on the ramp over frequency f in cycles per detector column, |f| <= 1/2.
_WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "ram-lak": torch.ones_like,
    "shepp-logan": torch.sinc,
    "cosine": lambda f: torch.cos(math.pi * f),
    "hamming": lambda f: 0.54 + 0.46 * torch.cos(2 * math.pi * f),
    "hann": lambda f: 0.5 + 0.5 * torch.cos(2 * math.pi * f),
}

_MISSING_WEDGE = 5.0  # a gap wider than this multiple of the median gap is a missing wedge


def filtered_backprojection(operator: ParallelBeam, y: Tensor, filter_name: str = "ram-lak") -> Tensor:
    """Filter each view with a ramp and back-project it; the result is in the unit of the image.

    Angles may be in any order and spacing, over 180° or more; a missing wedge (limited angle)
    contributes nothing.

    Args:
        operator: projector whose geometry, device and dtype are used; its adjoint is not.
        y: line integrals, ``(z, view, detector)``.
        filter_name: window on the ramp, one of ``FilterName``, listed from sharp to smooth.

    Returns:
        Images, ``(z, y, x)``; not differentiable.

    Raises:
        ValueError: wrong shape, or a filter name that does not exist.

    Source: Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3.3.
    """
    check_shape("filtered_backprojection(y)", y.shape, operator.measurement_shape)
    if filter_name not in _WINDOWS:
        raise ValueError(
            f"filtered_backprojection: filter_name is {filter_name!r}, expected one of {get_args(FilterName)}"
        )
    filtered = ramp_filter(y.detach(), operator.geometry.detector_spacing, filter_name)
    table = interpolation_table(operator.geometry, angular_weights(operator.geometry.angles))
    return operator.backproject(filtered, table)


def ramp_filter(y: Tensor, detector_spacing: float, filter_name: str) -> Tensor:
    """Return ``y: (..., detector)`` with each row convolved by the band-limited ramp, in the same shape."""
    num_detectors = y.shape[-1]
    # Twice the length, so that the ends do not see each other around the circle.
    size = 2 ** math.ceil(math.log2(2 * num_detectors))
    response = ramp_response(size, filter_name).to(device=y.device, dtype=y.dtype) / detector_spacing
    with one_thread():
        spectrum = torch.fft.rfft(y, n=size) * response
        filtered: Tensor = torch.fft.irfft(spectrum, n=size)
    return filtered[..., :num_detectors]


def ramp_response(size: int, filter_name: str) -> Tensor:
    """Return the transfer function of the windowed ramp at unit spacing, ``(size // 2 + 1,)`` float64.

    It is the Fourier transform of the ramp's samples in space. A ramp sampled in frequency would be zero at
    f = 0 and lower the whole image (Kak and Slaney, equation 61).
    """
    n = torch.fft.fftfreq(size, d=1 / size, dtype=torch.float64)
    kernel = torch.where(n.remainder(2) == 1, -1 / (math.pi * n.clamp(min=1.0).where(n > 0, n)) ** 2, 0.0)
    kernel[0] = 0.25
    ramp: Tensor = torch.fft.rfft(kernel).real
    return ramp * _WINDOWS[filter_name](torch.fft.rfftfreq(size, dtype=torch.float64))


def angular_weights(angles: Sequence[float]) -> NDArray[np.float64]:
    """Return the part of the half turn that each view stands for, ``(view,)`` in radians.

    It is half the gap to either neighbour on the circle of directions (θ and θ + 180° see the same rays).
    A gap wider than 5 times the median is a missing wedge. The views at its edges count as if the spacing
    continued; else the two of them would have nearly all the weight.
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
