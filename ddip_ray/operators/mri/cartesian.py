"""Cartesian k-space of one coil or several: ``Sense(sampling_mask, sensitivity_maps)``."""

from __future__ import annotations

from torch import Tensor

from ddip_ray.numerics.inner_product import product
from ddip_ray.operators.mri.coil_products import combined, times
from ddip_ray.operators.mri.fourier import centring, plain_fourier, plain_fourier_adjoint
from ddip_ray.operators.mri.multi_coil import MultiCoil


class Sense(MultiCoil):
    """k-space samples of the image as each coil sees it: M F S_c x (SENSE, Pruessmann et al. 1999).

    F is orthonormal, so that white noise stays as large as it is; the adjoint is the conjugate transpose.
    Where the mask is 0 a sample was not taken, and is 0. What a slice gives depends on it alone, in every
    bit, on a CPU.

    Args:
        sampling_mask: real 0 or 1, (ky, kx), or (z, ky, kx) of each slice.
        sensitivity_maps: complex, (coil, y, x), or (z, coil, y, x) of each slice. An image's known phase may
            be in them.

    With either of them of each slice the operator is of exactly so many slices; else of any number.

    Raises:
        ValueError: mask and maps that do not fit each other, and at calls a tensor of wrong shape or dtype.
    """

    def __init__(self, sampling_mask: Tensor, sensitivity_maps: Tensor) -> None:
        if sampling_mask.ndim not in (2, 3) or sensitivity_maps.ndim not in (3, 4):
            raise ValueError(
                "Sense: expected sampling_mask ([z,] ky, kx) and sensitivity_maps ([z,] coil, y, x), "
                f"got shapes {tuple(sampling_mask.shape)} and {tuple(sensitivity_maps.shape)}"
            )
        if sampling_mask.shape[-2:] != sensitivity_maps.shape[-2:]:
            raise ValueError(
                f"Sense: a sampling_mask of {tuple(sampling_mask.shape[-2:])} (ky, kx), "
                f"sensitivity_maps of {tuple(sensitivity_maps.shape[-2:])} (y, x)"
            )
        num_masks = len(sampling_mask) if sampling_mask.ndim == 3 else None
        super().__init__(sensitivity_maps, sampling_mask, num_masks, "sampling_mask")
        before, after = centring(self.image_shape, sensitivity_maps.dtype)
        self._maps = product(self.sensitivity_maps, before.to(sensitivity_maps.device))
        self._samples = self.sampling_mask * after.to(sensitivity_maps.device)
        self._samples_adjoint = self._samples.conj().resolve_conj()

    def _measure(self, x: Tensor) -> Tensor:
        return times(self._samples, plain_fourier(times(self._maps, x[:, None])))

    def _combine(self, y: Tensor) -> Tensor:
        return combined(self._maps, plain_fourier_adjoint(times(self._samples_adjoint, y)))
