"""Cartesian k-space of one coil or several: ``Sense(sampling_mask, sensitivity_maps)``."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.numerics.inner_product import product
from ddip_ray.operators.coarse_scan import CoarseScan
from ddip_ray.operators.evenly_spread import evenly_spread
from ddip_ray.operators.mri.coarse import check_downsampling, coarse_maps, coarse_mask
from ddip_ray.operators.mri.coil_products import combined, times
from ddip_ray.operators.mri.fourier import centring, plain_fourier, plain_fourier_adjoint
from ddip_ray.operators.mri.multi_coil import MultiCoil
from ddip_ray.operators.mri.sensitivity_maps import calibration_size, central_square

_LARGEST_CENTRE = 16  # samples along each side that are never held out


class Sense(MultiCoil):
    """k-space samples of the image as each coil sees it: M F S_c x.

    SENSE (Pruessmann et al., SENSE: Sensitivity Encoding for Fast MRI, Magnetic Resonance in Medicine 1999).
    F is orthonormal, so that white noise keeps its standard deviation. Samples that the mask leaves out are
    0. On a CPU the bits of a slice's result do not depend on other slices.

    Args:
        sampling_mask: real, 1 where a sample is taken and 0 elsewhere, (ky, kx), or (z, ky, kx) with a mask
            for each slice.
        sensitivity_maps: complex, (coil, y, x), or (z, coil, y, x) with maps for each slice. They may contain
            a known phase of the image.

    With a mask or maps for each slice the operator accepts exactly these slices, otherwise any number.

    Raises:
        ValueError: mask and maps that do not fit each other.
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
        ny, nx = self.image_shape
        before, after = centring((ny, nx), sensitivity_maps.dtype)
        self._maps = product(self.sensitivity_maps, before.to(sensitivity_maps.device))
        self._samples = self.sampling_mask * after.to(sensitivity_maps.device)
        self._samples_adjoint = self._samples.conj().resolve_conj()

    def hold_out(self, share: float, seed: int) -> Tensor:
        """Return a mask (1, ky, kx) that holds out lines, or points of a pattern of points.

        The operator is of one slice. The fully sampled centre is kept, because the phase is estimated there.
        """
        if len(self.sampling_mask) != 1:
            raise ValueError(f"{self.name}.hold_out: expected the operator of one slice")
        taken = self.sampling_mask[0, 0].cpu()
        kept, outside = torch.ones_like(taken), taken.clone()
        central_square(outside, min(calibration_size(taken), _LARGEST_CENTRE)).zero_()
        if not bool(outside.any()):
            raise InputError("k-space has no sample outside its centre to hold out")
        lines = torch.nonzero(outside.amin(1))[:, 0]
        if len(lines) and bool((taken == taken[:, :1]).all()):
            kept[lines[evenly_spread(len(lines), share, seed)]] = 0
            return kept[None]
        points = torch.nonzero(outside)
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
        chosen = points[order[: max(1, round(share * len(points)))]]
        kept[chosen[:, 0], chosen[:, 1]] = 0
        return kept[None]

    def coarse_scan(self, downsampling: int) -> CoarseScan:
        """Return the scan of larger pixels over the same field of view, with the same share of samples."""
        self._require_same_slices("coarse_scan")
        check_downsampling(downsampling, self.image_shape)
        mask = coarse_mask(self.sampling_mask[0, 0], downsampling)
        operator = Sense(mask, coarse_maps(self.sensitivity_maps[0], downsampling))
        seen = operator._full_field_of_view()
        return CoarseScan(operator, seen, list(range(180)), 1.0, operator.sampling_mask)

    def direct_inverse(self, y: Tensor, filter_name: str | None = None) -> Tensor:
        """Return the image with zeros in place of all samples that were not taken, which is Aᴴ y."""
        self._refuse_filter(filter_name)
        return self.adjoint(y)

    def _forward(self, x: Tensor) -> Tensor:
        return times(self._samples, plain_fourier(times(self._maps, x[:, None])))

    def _adjoint(self, y: Tensor) -> Tensor:
        return combined(self._maps, plain_fourier_adjoint(times(self._samples_adjoint, y)))

    def _find_norm(self) -> float:
        # With normalised maps nothing becomes larger; an image whose samples are all taken stays as large.
        return 1.0 if self._maps_are_normalised() else super()._find_norm()
