"""k-space along any trajectory, of one coil or several: ``NonCartesianSense(trajectory, maps)``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.operators.coarse_scan import CoarseScan
from ddip_ray.operators.evenly_spread import evenly_spread
from ddip_ray.operators.mri.coarse import check_downsampling, coarse_maps, coarse_trajectory
from ddip_ray.operators.mri.coil_products import combined, times
from ddip_ray.operators.mri.multi_coil import MultiCoil
from ddip_ray.operators.mri.nufft import nufft, nufft_adjoint

_DENSITY_ITERATIONS = 20


class NonCartesianSense(MultiCoil):
    """Samples of the image's Fourier transform along a trajectory, as each coil sees it.

    y(k) = (ny nx)^(-1/2) Σ_r S_c(r) x(r) exp(−2πi k·r), with pixels r counted from (ny // 2, nx // 2). On the
    Cartesian grid this is `Sense` (Pruessmann et al., Advances in Sensitivity Encoding with Arbitrary k-Space
    Trajectories, Magnetic Resonance in Medicine 2001, doi:10.1002/mrm.1241). It is computed on the CPU,
    whatever device the images are on. The bits of a slice's result do not depend on other slices.

    Args:
        trajectory: real, cycles per pixel along y and x, (readout, sample, 2), or (z, readout, sample, 2)
            with one for each slice. Frequencies that differ by 1 are the same to the pixels.
        sensitivity_maps: complex, (coil, y, x), or (z, coil, y, x) with maps for each slice.
        sampling_mask: real, 0 where a sample is left out and 1 elsewhere, (readout, sample) or
            (z, readout, sample); None: all samples are taken.

    With a trajectory or maps for each slice the operator accepts exactly these slices, otherwise any number.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """

    def __init__(
        self, trajectory: Tensor, sensitivity_maps: Tensor, sampling_mask: Tensor | None = None
    ) -> None:
        if trajectory.ndim not in (3, 4) or trajectory.shape[-1] != 2 or sensitivity_maps.ndim not in (3, 4):
            raise ValueError(
                "NonCartesianSense: expected trajectory ([z,] readout, sample, 2) and sensitivity_maps "
                f"([z,] coil, y, x), got shapes {tuple(trajectory.shape)} and {tuple(sensitivity_maps.shape)}"
            )
        mask = torch.ones(trajectory.shape[:-1]) if sampling_mask is None else sampling_mask
        if mask.shape != trajectory.shape[:-1]:
            raise ValueError(
                f"NonCartesianSense: sampling_mask of {tuple(mask.shape)}, trajectory of "
                f"{tuple(trajectory.shape)}"
            )
        num_paths = len(trajectory) if trajectory.ndim == 4 else None
        super().__init__(sensitivity_maps, mask, num_paths, "trajectory")
        self.trajectory = trajectory.reshape(-1, *trajectory.shape[-3:])

    def hold_out(self, share: float, seed: int) -> Tensor:
        """Return a mask (1, readout, 1) that holds out whole readouts, evenly spread."""
        num_readouts = self.measurement_shape[1]
        if num_readouts == 1:
            raise InputError("k-space in one readout leaves none to hold out")
        kept = torch.ones(num_readouts, 1)
        kept[evenly_spread(num_readouts, share, seed)] = 0
        return kept[None]

    def coarse_scan(self, downsampling: int) -> CoarseScan:
        """Return the scan of larger pixels along fewer or shorter readouts (`coarse_trajectory`)."""
        self._require_same_slices("coarse_scan")
        check_downsampling(downsampling, self.image_shape)
        path, taken = coarse_trajectory(self.trajectory[0], self.sampling_mask[0, 0], downsampling)
        operator = NonCartesianSense(path, coarse_maps(self.sensitivity_maps[0], downsampling), taken)
        seen = operator._full_field_of_view()
        return CoarseScan(operator, seen, list(range(180)), 1.0, operator.sampling_mask)

    def direct_inverse(self, y: Tensor, filter_name: str | None = None) -> Tensor:
        """Return the image by gridding: the adjoint of samples weighted by the distances between them.

        Args:
            y: samples, ``(z, coil, readout, sample)``.
            filter_name: None; there is no filter.

        Returns:
            Images, ``(z, y, x)``.
        """
        self._refuse_filter(filter_name)
        masks = self.sampling_mask[:, 0]
        weights = [
            _density_compensation(path, mask, self.sensitivity_maps)
            for path, mask in zip(self.trajectory, masks, strict=True)
        ]
        return self.adjoint(torch.stack(weights)[:, None] * y)

    def _forward(self, x: Tensor) -> Tensor:
        seen = _arrays(times(self.sensitivity_maps, x[:, None]))
        rows = [nufft(self._path(z), images) for z, images in enumerate(seen)]
        return self.sampling_mask * _stacked(rows, x, (len(x), *self.measurement_shape))

    def _adjoint(self, y: Tensor) -> Tensor:
        taken = _arrays(self.sampling_mask * y)
        rows = [nufft_adjoint(self._path(z), own, self.image_shape) for z, own in enumerate(taken)]
        shape = len(y), self.measurement_shape[0], *self.image_shape
        return combined(self.sensitivity_maps, _stacked(rows, y, shape))

    def _path(self, z: int) -> NDArray[Any]:
        own: NDArray[Any] = self.trajectory[z if len(self.trajectory) > 1 else 0].cpu().numpy()
        return own


def _density_compensation(path: Tensor, mask: Tensor, like: Tensor) -> Tensor:
    """Return the part of k-space that each sample stands for, (readout, sample).

    By the iteration w ← w / (w ∗ sinc²) of Pipe and Menon (Sampling Density Compensation in MRI, Magnetic
    Resonance in Medicine 1999, doi:10.1002/(SICI)1522-2594(199901)41:1<179). The weighted samples then make a
    point when they are seen through a triangle twice as wide as the field of view, whose transform is
    positive.
    """
    ny, nx = like.shape[-2:]
    tents = [1 - (torch.arange(2 * n) - n).abs() / n for n in (ny, nx)]
    tent = (tents[0][:, None] * tents[1])[None].to(like)
    A = NonCartesianSense(path, torch.ones_like(tent), mask)
    weights = A.sampling_mask.to(tent.dtype)
    for _ in range(_DENSITY_ITERATIONS):
        # Four times the pixels: the transform is orthonormal, the weights are those of the image's.
        density = 4 * A.forward(tent * A.adjoint(weights)).abs()
        weights = torch.where(A.sampling_mask > 0, weights / density.where(density > 0, 1.0), 0.0)
    return weights[0, 0].real


def _arrays(x: Tensor) -> list[NDArray[Any]]:
    """Return a contiguous array for each slice."""
    return [np.ascontiguousarray(row) for row in x.resolve_conj().cpu().numpy()]


def _stacked(rows: list[NDArray[Any]], like: Tensor, shape: tuple[int, ...]) -> Tensor:
    if not rows:
        return like.new_zeros(shape)
    return torch.from_numpy(np.stack(rows)).to(like.device, like.dtype)
