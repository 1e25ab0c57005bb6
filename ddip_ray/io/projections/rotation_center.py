"""The detector column on which the rotation axis projects, estimated from parallel-beam line integrals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError

MAX_ROWS = 32
MAX_PAIRS = 8
_MIN_RANGE_DEG = 30.0
_HINT = "Give the rotation centre by hand: `rotation_center`"


@dataclass(frozen=True)
class RotationCenter:
    """The rotation axis as a 0-based fractional detector column, and the method that found it."""

    column: float
    method: Literal["mirrored views", "center of mass"]


def estimate_rotation_center(
    line_integrals: NDArray[np.floating], angles_deg: NDArray[np.floating]
) -> RotationCenter:
    """Estimate the rotation centre from line integrals (z, view, detector); a few dozen rows suffice.

    Views 180 degrees apart are mirror images about the axis. If the scan has such views, they give the centre
    to about a quarter of a column. Otherwise the centre of mass is used, which moves on a sinusoid about the
    axis: it needs an object wholly in view and air at zero, and is accurate to a column or two.

    Raises:
        InputError: neither is possible.
    """
    num_rows = line_integrals.shape[0]
    rows = np.unique(np.linspace(0, num_rows - 1, min(num_rows, MAX_ROWS)).round().astype(int))
    sinograms = np.asarray(line_integrals[rows], dtype=np.float64)
    angles = np.asarray(angles_deg, dtype=np.float64)
    if pairs := mirrored_pairs(angles):
        return RotationCenter(_center_of_pairs(sinograms, pairs), "mirrored views")
    return RotationCenter(_center_of_mass(sinograms, angles), "center of mass")


def mirrored_pairs(angles_deg: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Up to eight pairs of views 180 degrees apart, to within 0.1 degrees or else one step of the scan."""
    difference = (angles_deg[None, :] - angles_deg[:, None]) % 360.0
    miss = np.where(np.triu(np.ones_like(difference, dtype=bool), 1), np.abs(difference - 180.0), np.inf)
    step = float(np.median(np.abs(np.diff(np.sort(angles_deg))))) if len(angles_deg) > 1 else 0.0
    # Mirrored views more than two degrees apart differ too much in a structured object.
    for tolerance in (0.1, min(1.01 * step, 2.0)):
        pairs = np.argwhere(miss <= tolerance)
        if len(pairs):
            chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_PAIRS)).round().astype(int))
            return [(int(i), int(j)) for i, j in pairs[chosen]]
    return []


def _center_of_pairs(sinograms: NDArray[np.float64], pairs: list[tuple[int, int]]) -> float:
    """The centre in the middle half of the detector about which mirrored views agree best."""
    num_columns = sinograms.shape[2]
    first = sinograms[:, [i for i, _ in pairs]]
    second = sinograms[:, [j for _, j in pairs]]
    # Whole numbers of twice the centre: column d mirrors to 2c - d, a column again.
    doubled = np.arange(num_columns // 2, 3 * num_columns // 2)
    misfit = np.array([_mirror_misfit(first, second, int(twice)) for twice in doubled])
    best = int(np.argmin(misfit))
    if best in (0, len(doubled) - 1):
        raise InputError("no rotation centre in the detector's middle half fits the mirrored views", _HINT)
    left, middle, right = misfit[best - 1 : best + 2]
    curvature = left - 2 * middle + right
    subcolumn = 0.5 * (left - right) / curvature if curvature > 0 else 0.0
    return float((doubled[best] + subcolumn) / 2)


def _mirror_misfit(first: NDArray[np.float64], second: NDArray[np.float64], twice_center: int) -> float:
    """The squared difference of mirrored views over their shared columns, relative to their energy."""
    num_columns = first.shape[-1]
    low, high = max(0, twice_center - num_columns + 1), min(num_columns - 1, twice_center)
    shared = first[..., low : high + 1]
    mirrored = second[..., twice_center - high : twice_center - low + 1][..., ::-1]
    energy = float((shared**2).sum() + (mirrored**2).sum())
    return float(((shared - mirrored) ** 2).sum()) / energy if energy > 0 else np.inf


def _center_of_mass(sinograms: NDArray[np.float64], angles_deg: NDArray[np.float64]) -> float:
    """Fit m(theta) = c + a cos(theta) + b sin(theta) to the centre of mass of all rows together."""
    profile = sinograms.sum(axis=0)
    mass = profile.sum(axis=1)
    if np.ptp(angles_deg) < _MIN_RANGE_DEG or len(angles_deg) < 4:
        raise InputError(f"{np.ptp(angles_deg):g} degrees of views are too few for a rotation centre", _HINT)
    if mass.min() <= 0 or np.ptp(mass) > 0.05 * mass.mean():
        raise InputError(
            "the views' total attenuation differs by more than 5 %: the object leaves the detector, or air "
            "is not at zero, so the centre of mass is no estimate of the rotation centre",
            _HINT,
        )
    center = profile @ np.arange(profile.shape[1]) / mass
    theta = np.deg2rad(angles_deg)
    terms = np.stack([np.ones_like(theta), np.cos(theta), np.sin(theta)], axis=1)
    column = float(np.linalg.lstsq(terms, center, rcond=None)[0][0])
    if not 0 <= column <= profile.shape[1] - 1:
        raise InputError(f"estimated rotation centre {column:g} lies outside the detector", _HINT)
    return column
