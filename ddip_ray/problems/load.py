"""The problem of a slab of any store: a table with a row for each kind of acquisition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.problems.cartesian_mri import load_cartesian_mri
from ddip_ray.problems.noncartesian_mri import load_noncartesian_mri
from ddip_ray.problems.parallel_ct import load_parallel_ct
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab

LOADERS: dict[str, Callable[[Acquisition, Slab, str | torch.device], SlabProblem]] = {
    "parallel_ct": load_parallel_ct,
    "cartesian_mri": load_cartesian_mri,
    "noncartesian_mri": load_noncartesian_mri,
}
"""The function that loads each kind of acquisition, by the name of the kind in stores."""


def load_problem(
    acquisition: Acquisition,
    slab: Slab,
    device: str | torch.device = "cpu",
    start_from: str | None = None,
) -> SlabProblem:
    """Return the problem that a slab of a store poses; nothing outside the slab is read.

    Args:
        acquisition: the store.
        slab: slices to read.
        device: device of measurements and operator.
        start_from: path of a result whose image the reconstruction starts from; None: there is none.

    Raises:
        InputError: ``start_from`` is not a result, or has another shape or unit; or data that cannot be used.
    """
    problem = LOADERS[acquisition.metadata.acquisition.kind](acquisition, slab, device)
    if start_from is None:
        return problem
    image = _initial_image(start_from, acquisition, slab).to(device)
    return replace(problem, earlier=problem.without_phase(image))


def _initial_image(path: str, acquisition: Acquisition, slab: Slab) -> Tensor:
    """Return the slab of the result at ``path`` in normalised units, (z, y, x)."""
    result, intensity = open_result(path), acquisition.metadata.intensity
    expected = (acquisition.num_slices, *acquisition.metadata.acquisition.image_shape)
    if result.shape != expected or result.metadata.unit != intensity.unit:
        raise InputError(
            f"start_from {path}: shape {result.shape} (z, y, x) in {result.metadata.unit or 'no unit'}, "
            f"expected {expected} in {intensity.unit or 'no unit'}"
        )
    return torch.from_numpy((result.read(slab.start, slab.stop) - intensity.offset) / intensity.scale)
