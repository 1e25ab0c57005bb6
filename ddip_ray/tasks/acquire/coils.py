"""Measured coils: whitening and compressing them, and estimating their noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError
from ddip_ray.operators.mri.coil_mixing import compression, noise_covariance, whitening
from ddip_ray.operators.mri.espirit import KSpace

MapsName = Literal["auto", "espirit", "low-resolution"]
MAPS: tuple[MapsName, ...] = get_args(MapsName)

_OUTER = 0.9  # fraction of the way to the edge of k-space, beyond which there is little more than noise


@dataclass(frozen=True)
class CoilChoice:
    """How coils are stored.

    Attributes:
        maps: How sensitivity maps are found; auto takes ESPIRiT where it is possible.
        whiten: Whether noise is made equal and independent in all coils, if the file has a noise scan.
        compress_coils: Number of virtual coils to compress to; None keeps all coils.
    """

    maps: MapsName = "auto"
    whiten: bool = True
    compress_coils: int | None = None


@dataclass(frozen=True)
class Mixing:
    """The linear map from the file's coils to the stored ones, ``matrix`` (stored, coil), and notes on it."""

    matrix: NDArray[np.complex64]
    notes: tuple[str, ...] = ()

    def __call__(self, y: KSpace) -> KSpace:
        """Samples (z, coil, …, …) as samples of the stored coils (z, stored, …, …)."""
        mixed: KSpace = np.einsum("dc,zcyx->zdyx", self.matrix, y)
        return mixed


def parse_maps(text: str) -> MapsName:
    """One of `MAPS`, or InputError."""
    for name in MAPS:
        if name == text:
            return name
    raise InputError(f"`maps`: found {text!r}, expected one of {', '.join(MAPS)}")


def mixing(y: KSpace, choice: CoilChoice, noise: KSpace | None = None) -> Mixing:
    """The map that whitens the noise and compresses the coils, found from some slices.

    Args:
        y: K-space (z, coil, …, …) of some slices.
        choice: What to do.
        noise: Samples of noise alone (coil, sample). Without them nothing is whitened, because the outermost
            samples of k-space hold too much of the image to replace them.

    Raises:
        InputError: more coils wanted than there are, or a noise scan of other coils.
    """
    num_coils, notes = y.shape[1], []
    if choice.compress_coils is not None and not 1 <= choice.compress_coils <= num_coils:
        raise InputError(f"`compress_coils`: found {choice.compress_coils}, expected 1 to {num_coils}")
    matrix = np.eye(num_coils, dtype=np.complex64)
    if choice.whiten and noise is not None:
        if len(noise) != num_coils:
            message = f"a noise scan of {len(noise)} coils with k-space of {num_coils}"
            raise InputError(message, "Use `whiten=False`")
        matrix = whitening(noise_covariance(noise))
        notes.append("noise of the coils made equal and independent, by the noise scan in the file")
    if choice.compress_coils is not None and choice.compress_coils < num_coils:
        kept, share = compression(Mixing(matrix)(y), choice.compress_coils)
        matrix = kept @ matrix
        notes.append(
            f"{num_coils} coils compressed to {choice.compress_coils} with {share:.2%} of the energy"
        )
    return Mixing(matrix, tuple(notes))


def noise_on_grid(y: KSpace) -> float:
    """The standard deviation of the noise's real part (equally, imaginary part) in y (z, coil, ky, kx).

    It is estimated from the outermost samples that were taken; signal among them makes it too large.
    """
    ky, kx = (np.abs(np.arange(n) - n // 2) / max(1, n // 2) for n in y.shape[2:])
    distance = np.maximum(ky[:, None], kx[None, :])
    where = distance[(y != 0).any(axis=(0, 1))]
    outer = distance > min(_OUTER, np.quantile(where, _OUTER)) if len(where) else distance > _OUTER
    return _spread(y, np.broadcast_to(outer, (len(y), *outer.shape)))


def noise_along(y: KSpace, paths: NDArray[np.float32]) -> float:
    """The same for readouts (z, coil, readout, sample) along trajectories (z, readout, sample, 2)."""
    distance = np.abs(paths).max(axis=-1)
    return _spread(y, distance >= _OUTER * distance.max())


def _spread(y: KSpace, outer: NDArray[np.bool_]) -> float:
    """The median over coils of each coil's noise, which its median magnitude tells robustly."""
    found = []
    for coil in range(y.shape[1]):
        samples = y[:, coil][outer]
        taken = samples[samples != 0]
        if len(taken):
            found.append(np.median(np.abs(np.stack([taken.real, taken.imag]))) / 0.6745)
    return float(np.median(found)) if found else 0.0
