"""What becomes of measured coils: which are stored, and how noisy they are."""

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

_OUTER = 0.9  # of the way to the edge of k-space, or of the samples: beyond is hardly more than noise


@dataclass(frozen=True)
class CoilChoice:
    """What becomes of the coils. ``maps`` auto: ESPIRiT where it can be; ``whiten``: where there is a noise
    scan; ``num_coils`` None: all stay."""

    maps: MapsName = "auto"
    whiten: bool = True
    num_coils: int | None = None


@dataclass(frozen=True)
class Mixing:
    """The coils that are stored: ``matrix`` (stored, coil), and what it does."""

    matrix: NDArray[np.complex64]
    notes: tuple[str, ...] = ()

    def __call__(self, y: KSpace) -> KSpace:
        """(z, coil, …, …) to (z, stored, …, …)."""
        mixed: KSpace = np.einsum("dc,zcyx->zdyx", self.matrix, y)
        return mixed


def parse_maps(text: str) -> MapsName:
    """One of `MAPS`, or InputError."""
    for name in MAPS:
        if name == text:
            return name
    raise InputError(f"--maps: found {text!r}, expected one of {', '.join(MAPS)}")


def mixing(y: KSpace, choice: CoilChoice, noise: KSpace | None = None) -> Mixing:
    """Whitens the noise and keeps what sees most, as found in some slices ``y: (z, coil, …, …)``.

    ``noise``: samples of noise alone, (coil, sample), without which nothing is whitened: the outermost
    samples of k-space hold too much of the image.

    Raises:
        InputError: more coils wanted than there are, or a noise scan of other coils.
    """
    num_coils, notes = y.shape[1], []
    if choice.num_coils is not None and not 1 <= choice.num_coils <= num_coils:
        raise InputError(f"--compress-coils: found {choice.num_coils}, expected 1 to {num_coils}")
    matrix = np.eye(num_coils, dtype=np.complex64)
    if choice.whiten and noise is not None:
        if len(noise) != num_coils:
            message = f"a noise scan of {len(noise)} coils with k-space of {num_coils}"
            raise InputError(message, "Use --no-whiten")
        matrix = whitening(noise_covariance(noise))
        notes.append("noise of the coils made equal and independent, by the noise scan in the file")
    if choice.num_coils is not None and choice.num_coils < num_coils:
        kept, share = compression(Mixing(matrix)(y), choice.num_coils)
        matrix = kept @ matrix
        notes.append(f"{num_coils} coils compressed to {choice.num_coils} with {share:.2%} of the energy")
    return Mixing(matrix, tuple(notes))


def noise_on_grid(y: KSpace) -> float:
    """Standard deviation of the real part, and of the imaginary part, of the noise: (z, coil, ky, kx).

    From the outermost samples that were taken. What signal there is makes it too large.
    """
    ky, kx = (np.abs(np.arange(n) - n // 2) / max(1, n // 2) for n in y.shape[2:])
    distance = np.maximum(ky[:, None], kx[None, :])
    where = distance[(y != 0).any(axis=(0, 1))]
    outer = distance > min(_OUTER, np.quantile(where, _OUTER)) if len(where) else distance > _OUTER
    return _spread(y, np.broadcast_to(outer, (len(y), *outer.shape)))


def noise_along(y: KSpace, paths: NDArray[np.float32]) -> float:
    """The same of readouts (z, coil, readout, sample) along trajectories (z, readout, sample, 2)."""
    distance = np.abs(paths).max(axis=-1)
    return _spread(y, distance >= _OUTER * distance.max())


def _spread(y: KSpace, outer: NDArray[np.bool_]) -> float:
    """By the median of their sizes in each coil, which few strong ones do not move; the median over coils."""
    found = []
    for coil in range(y.shape[1]):
        samples = y[:, coil][outer]
        taken = samples[samples != 0]
        if len(taken):
            found.append(np.median(np.abs(np.stack([taken.real, taken.imag]))) / 0.6745)
    return float(np.median(found)) if found else 0.0
