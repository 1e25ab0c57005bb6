"""PSNR and SSIM of volumes and of their slices, all on one data range, optionally inside a circle.

`psnr` and `ssim` are for users and take arrays or tensors; the functions below them are what `evaluate`
puts together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SSIM_SIGMA = 1.5
SSIM_REACH = 5  # pixels on either side of the 11 wide Gaussian window
PLANES = ("axial", "coronal", "sagittal")  # slices along z, y, x
BLOCK_SLICES = 32


@dataclass(frozen=True)
class PlaneScores:
    """Scores of every slice along one axis, and their means over ``num_averaged`` slices.

    A score is None where it is not defined. Slices whose reference is constant (air) are left out of the
    means: an improvement there would count as much as one in the object, and an exact match has no finite
    PSNR.
    """

    psnr: float | None
    ssim: float | None
    num_averaged: int
    slice_psnr: tuple[float | None, ...]
    slice_ssim: tuple[float | None, ...]


def psnr(image: Any, reference: Any, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio of an image in dB; infinite for identical images.

    Args:
        image: NumPy array or torch tensor of any shape; the magnitude of a complex one is scored.
        reference: What the image should be, of the same shape.
        data_range: The peak signal: the distance between the lowest and the highest possible value.

    Raises:
        InputError: the shapes differ, or ``data_range`` is not positive.
    """
    a, b = _pair(image, reference, data_range)
    mse = mean_squared_error(a, b)
    assert mse is not None  # without a mask and with pixels
    return decibels(mse, data_range)


def ssim(image: Any, reference: Any, data_range: float = 1.0) -> float:
    """Mean structural similarity (Wang et al., 2004) of an image or a volume, as one 2D or 3D image.

    Args:
        image: NumPy array or torch tensor, (y, x) or (z, y, x); the magnitude of a complex one is scored.
        reference: What the image should be, of the same shape.
        data_range: The distance between the lowest and the highest possible value.

    Raises:
        InputError: the shapes differ, ``data_range`` is not positive, or an axis is shorter than the Gaussian
            window of 11 pixels.
    """
    a, b = _pair(image, reference, data_range)
    found = mean_ssim(a, b, data_range) if a.ndim in (2, 3) else None
    if found is None:
        raise InputError(
            f"`image`: shape {a.shape}, expected (y, x) or (z, y, x), at least {2 * SSIM_REACH + 1} pixels "
            "along every axis",
            "Score the slices of a thin volume one by one",
        )
    return found


def _pair(image: Any, reference: Any, data_range: float) -> tuple[Image, Image]:
    a, b = _real_array(image), _real_array(reference)
    if a.shape != b.shape or not a.size:
        raise InputError(f"`image` has shape {a.shape}, `reference` {b.shape}, expected the same, not empty")
    require_positive(data_range)
    return a, b


def _real_array(image: Any) -> Image:
    """The image as an array in the CPU's memory; torch need not be imported to know a tensor."""
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    real = np.abs(array) if np.iscomplexobj(array) else array
    return real.astype(np.result_type(real.dtype, np.float32), copy=False)  # whole numbers would wrap around


def require_positive(data_range: float) -> None:
    """InputError unless ``data_range`` is a positive number."""
    if not (math.isfinite(data_range) and data_range > 0):
        raise InputError(f"`data_range`: found {data_range:g}, expected a positive number")


def decibels(mse: float, data_range: float) -> float:
    """The PSNR that belongs to a mean squared error; infinite for an error of zero."""
    return math.inf if mse == 0 else 10 * math.log10(data_range**2 / mse)


def inscribed_circle(image_shape: tuple[int, int]) -> Mask:
    """A mask (y, x) of the largest circle in a slice, which every view of a measured scan has seen."""
    y, x = (np.arange(size) - (size - 1) / 2 for size in image_shape)
    inside: Mask = np.hypot(y[:, None], x[None, :]) <= min(image_shape) / 2
    return inside


def mean_squared_error(a: Image, b: Image, mask: Mask | None = None) -> float | None:
    """The mean squared error over the pixels of the mask, in float64; None if the mask is empty."""
    squared = np.square(a - b, dtype=np.float64)
    chosen = squared if mask is None else squared[mask]
    return float(chosen.mean()) if chosen.size else None


def mean_ssim(a: Image, b: Image, data_range: float, mask: Mask | None = None) -> float | None:
    """The mean structural similarity with a Gaussian window, in 2D or 3D.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", IEEE Transactions on Image Processing 13 (2004). As in their code, windows that reach beyond
    the image are left out. Blocks along the first axis limit the memory and change no value.

    Args:
        a: Image (y, x) or volume (z, y, x).
        b: Its reference, of the same shape.
        data_range: The distance between the lowest and the highest possible value.
        mask: The pixels over which the similarity is averaged; None means all.

    Returns:
        The mean, or None if an axis is shorter than the window or the mask is empty.
    """
    if min(a.shape) <= 2 * SSIM_REACH:
        return None
    total, count = 0.0, 0
    for start in range(SSIM_REACH, a.shape[0] - SSIM_REACH, BLOCK_SLICES):
        stop = min(start + BLOCK_SLICES, a.shape[0] - SSIM_REACH)
        block = slice(start - SSIM_REACH, stop + SSIM_REACH)
        inner = _ssim_map(a[block], b[block], data_range)[(slice(SSIM_REACH, -SSIM_REACH),) * a.ndim]
        if mask is not None:
            inner = inner[mask[block][(slice(SSIM_REACH, -SSIM_REACH),) * a.ndim]]
        total, count = total + float(inner.sum(dtype=np.float64)), count + inner.size
    return total / count if count else None


def _ssim_map(a: Image, b: Image, data_range: float) -> NDArray[np.float64]:
    from skimage.metrics import structural_similarity

    # in float64, because the variances are differences of squares
    _, similarity = structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        data_range=data_range,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    result: NDArray[np.float64] = similarity
    return result


def plane_scores(a: Image, b: Image, axis: int, data_range: float, mask: Mask | None) -> PlaneScores:
    """Scores of every slice of a volume along one axis.

    Args:
        a: Volume (z, y, x).
        b: Its reference, of the same shape.
        axis: The axis along which slices are counted: 0 for axial, 1 for coronal, 2 for sagittal ones.
        data_range: The distance between the lowest and the highest possible value.
        mask: Pixels (y, x) of every axial slice that are scored; None means all.
    """
    volume_mask = None if mask is None else np.broadcast_to(mask, a.shape)
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    masks = [None] * len(a) if volume_mask is None else list(np.moveaxis(volume_mask, axis, 0))
    errors = [mean_squared_error(*images) for images in zip(a, b, masks, strict=True)]
    slice_psnr = tuple(None if error is None else decibels(error, data_range) for error in errors)
    slice_ssim = tuple(mean_ssim(x, y, data_range, m) for x, y, m in zip(a, b, masks, strict=True))
    chosen = [z for z, (y, m) in enumerate(zip(b, masks, strict=True)) if _varies(y, m)]
    psnr_mean, ssim_mean = (_mean([values[z] for z in chosen]) for values in (slice_psnr, slice_ssim))
    return PlaneScores(psnr_mean, ssim_mean, len(chosen), slice_psnr, slice_ssim)


def _varies(image: Image, mask: Mask | None) -> bool:
    values = image if mask is None else image[mask]
    return bool(values.size and values.min() < values.max())


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the finite values: one exactly matched slice must not make the mean infinite."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None
