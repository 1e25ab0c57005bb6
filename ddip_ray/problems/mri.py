"""The parts that all kinds of k-space share: coils, and images freed of their phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.schema import MEASUREMENTS, SENSITIVITY_MAPS
from ddip_ray.numerics.threads import one_thread
from ddip_ray.operators.base import LinearOperator
from ddip_ray.operators.mri.sensitivity_maps import low_resolution, low_resolution_maps
from ddip_ray.problems.noise import is_estimated, noise_std
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


class SliceOfKSpace(NamedTuple):
    """The k-space of one slice, as it is stored.

    Attributes:
        y: samples, (coil, …).
        sampled: mask (ky, kx) or trajectory (readout, sample, 2).
        image_shape: (y, x).
        name: path of the store and index of the slice, for messages: "vol.zarr", 3.
    """

    y: Tensor
    sampled: Tensor
    image_shape: tuple[int, int]
    name: tuple[str, int]


@dataclass(frozen=True)
class KSpaceKind:
    """The properties in which one kind of k-space differs from another.

    Attributes:
        sampled_name: name of the array that says where samples lie.
        operator: forward operator from this array and sensitivity maps.
        centre: the fully sampled centre of a slice, as k-space (coil, ky, kx), and the side of this square.
    """

    sampled_name: str
    operator: Callable[[Tensor, Tensor], LinearOperator]
    centre: Callable[[SliceOfKSpace], tuple[Tensor, int]]


def load_mri(
    acquisition: Acquisition, slab: Slab, device: str | torch.device, kind: KSpaceKind
) -> SlabProblem:
    """Return the problem of a slab, for images without the phase that the centre of k-space shows.

    A prior of real images with a dark background then meets images that it knows: their real part is
    positive, their imaginary part near 0. Sensitivity maps that are missing are estimated from the centre,
    too.

    Args:
        acquisition: store of k-space.
        slab: slices to read.
        device: device of k-space and operator.
        kind: properties of this kind of k-space.

    Raises:
        InputError: no sample was taken, or too few at the centre, or no coil has a signal.
    """
    metadata, num_slices = acquisition.metadata, acquisition.num_slices
    scale = metadata.intensity.measurement_scale
    own = _read(acquisition, slab, device, kind)
    central = _read(acquisition, Slab(num_slices // 2, num_slices // 2 + 1), device, kind)
    return SlabProblem(
        kind.operator(own.sampled, own.maps),
        own.y,
        slab,
        num_slices,
        noise_std(metadata.noise) / scale,
        noise_is_estimated=is_estimated(metadata.noise),
        phase=own.phase,
        typical=kind.operator(central.sampled[0], central.maps[0]),
    )


class _Slices(NamedTuple):
    """k-space of several slices.

    Attributes:
        y: samples, (z, coil, …).
        sampled: masks (z, ky, kx) or trajectories (z, readout, sample, 2).
        maps: sensitivity maps that contain the image's phase, (z, coil, y, x).
        phase: this phase, (z, y, x), of modulus 1.
    """

    y: Tensor
    sampled: Tensor
    maps: Tensor
    phase: Tensor


def _read(acquisition: Acquisition, slab: Slab, device: str | torch.device, kind: KSpaceKind) -> _Slices:
    def tensor(name: str) -> Tensor:
        return torch.from_numpy(acquisition.read(name, slab.start, slab.stop)).to(device)

    y = tensor(MEASUREMENTS) / acquisition.metadata.intensity.measurement_scale
    sampled = tensor(kind.sampled_name).float()
    stored = tensor(SENSITIVITY_MAPS) if SENSITIVITY_MAPS in acquisition.names else None
    ny, nx = acquisition.metadata.acquisition.image_shape
    maps, phases = [], []
    with one_thread():  # and slice by slice, so that every bit depends on the slice alone
        for row, z in enumerate(range(slab.start, slab.stop)):
            one = SliceOfKSpace(y[row], sampled[row], (ny, nx), (acquisition.path, z))
            own, phase = _maps_and_phase(*kind.centre(one), None if stored is None else stored[row], one.name)
            maps.append(own)
            phases.append(phase)
    return _Slices(y, sampled, torch.stack(maps), torch.stack(phases))


def _maps_and_phase(
    centre: Tensor, size: int, stored: Tensor | None, name: tuple[str, int]
) -> tuple[Tensor, Tensor]:
    """Return normalised maps that contain the image's phase, (coil, y, x), and this phase, (y, x)."""
    found = low_resolution_maps(centre, size) if stored is None else stored
    total = found.abs().square().sum(0).sqrt()
    if not bool(total.any()):
        raise InputError(f"{name[0]}: the coils of slice {name[1]} see nothing")
    found = found / torch.where(total > 0, total, 1.0)
    image = (found.conj() * low_resolution(centre, size)).sum(0)
    phase = torch.polar(torch.ones_like(total), image.angle())
    return found * phase, phase
