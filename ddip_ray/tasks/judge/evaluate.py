"""Scores of a result against a reference, and its residual against the measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.numerics.inner_product import squared_modulus
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.tasks.judge.scores import (
    PLANES,
    PlaneScores,
    decibels,
    inscribed_circle,
    mean_squared_error,
    mean_ssim,
    plane_scores,
    require_positive,
)
from ddip_ray.tasks.judge.volumes import (
    Image,
    find_acquisition,
    magnitude,
    read_image,
    read_own_reference,
    read_reference,
    require_shape,
)
from ddip_ray.tasks.slices import slabs


@dataclass(frozen=True)
class Evaluation:
    """The scores of a result.

    ``data_range`` is in normalised units, in which 1 is the intensity window, and ``data_range_original`` in
    ``unit``. ``residual`` is ‖A x − y‖/‖y‖, or None if the acquisition is not available.
    """

    result: str
    reference: str
    shape: tuple[int, int, int]
    data_range: float
    data_range_original: float
    unit: str
    region: str
    psnr: float
    ssim: float | None
    planes: dict[str, PlaneScores]
    residual: float | None


def evaluate(
    result: str,
    reference: str | None = None,
    data_range: float = 1.0,
    circle: bool = False,
    acquisition: Acquisition | None = None,
) -> Evaluation:
    """Score a result against a reference; both volumes are held in memory.

    Args:
        result: Path of the result; the magnitude of a complex image is scored.
        reference: Path of another result, or of an acquisition with a reference; None takes the reference in
            the acquisition that the result was made from.
        data_range: Data range of PSNR and SSIM in normalised units; 1 is the whole intensity window.
        circle: Whether to score only the inscribed circle of each slice (measured scans).
        acquisition: The acquisition that the result was made from; None looks for it where it was, and beside
            the result.

    Raises:
        InputError: no such store, no reference, or shapes that differ.
    """
    require_positive(data_range)
    store = open_result(result)
    intensity = store.intensity
    acquisition = acquisition or find_acquisition(store)
    if reference is not None:
        truth = read_reference(reference, intensity, store.metadata.unit)
    elif acquisition is not None:
        truth, reference = read_own_reference(acquisition), acquisition.path
    else:
        raise InputError(
            f"{result}: the acquisition it was made from is neither where it was nor beside it",
            "Name a reference: `reference=STORE`",
        )
    require_shape(truth, reference, store.shape)
    image = read_image(store, intensity)
    x = magnitude(image)
    mask = inscribed_circle(store.shape[1:]) if circle else None
    volume_mask = None if mask is None else np.broadcast_to(mask, x.shape)
    mse = mean_squared_error(x, truth, volume_mask)
    assert mse is not None  # a circle in a slice holds at least one pixel
    return Evaluation(
        result=store.path,
        reference=reference,
        shape=store.shape,
        data_range=data_range,
        data_range_original=data_range * intensity.scale,
        unit=store.metadata.unit,
        region="inscribed circle" if circle else "whole slices",
        psnr=decibels(mse, data_range),
        ssim=mean_ssim(x, truth, data_range, volume_mask),
        planes={plane: plane_scores(x, truth, axis, data_range, mask) for axis, plane in enumerate(PLANES)},
        residual=None if acquisition is None else measurement_residual(acquisition, image),
    )


def measurement_residual(acquisition: Acquisition, x: Image) -> float | None:
    """‖A x − y‖/‖y‖ over the whole volume; None if ``x`` is on another grid or y is zero."""
    geometry = acquisition.metadata.acquisition
    if x.shape != (acquisition.num_slices, *geometry.image_shape):
        return None
    misfit = signal = 0.0
    slice_bytes = 4 * math.prod(geometry.measurement_shape)
    for start, stop in slabs(acquisition.num_slices, acquisition.shard_slices, slice_bytes):
        problem = load_problem(acquisition, Slab(start, stop))
        predicted = problem.operator.forward(problem.without_phase(torch.from_numpy(x[start:stop])))
        misfit += float(squared_modulus(predicted - problem.y).double().sum())
        signal += float(squared_modulus(problem.y).double().sum())
    return math.sqrt(misfit / signal) if signal > 0 else None
