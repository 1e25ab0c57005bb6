"""Measured coils: noise made white and independent, fewer of them, and their sensitivities."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError

KSpace = NDArray[np.complex64]
MapsName = Literal["auto", "espirit", "low-resolution"]
MAPS: tuple[MapsName, ...] = get_args(MapsName)

_OUTER = 0.9  # of the way to the edge of k-space, or of the samples: beyond is hardly more than noise
_LEAST_VARIANCE = 1e-6  # of the largest: less is a coil that is not connected
_KERNEL, _LARGEST_CENTRE, _LEAST_CENTRE = 6, 24, 12  # samples along each side
# Of an eigenvalue of ESPIRiT, below which a map ends: where no coil sees, a prior invents. Of a singular
# value, to the largest.
_EIGENVALUE, _SINGULAR_VALUE = 0.0, 0.02


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
        """(z, coil, ky, kx) to (z, stored, ky, kx)."""
        mixed: KSpace = np.einsum("dc,zcyx->zdyx", self.matrix, y)
        return mixed


def parse_maps(text: str) -> MapsName:
    """One of `MAPS`, or InputError."""
    for name in MAPS:
        if name == text:
            return name
    raise InputError(f"--maps: found {text!r}, expected one of {', '.join(MAPS)}")


def mixing(y: KSpace, choice: CoilChoice, noise: KSpace | None = None) -> Mixing:
    """Whitens the noise and keeps what sees most, as found in some slices ``y: (z, coil, ky, kx)``.

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


def whitening(covariance: NDArray[np.complex128]) -> NDArray[np.complex64]:
    """The matrix (coil, coil) after which all coils have the mean of the variances, and no covariance."""
    values, vectors = np.linalg.eigh(covariance)
    mean = float(values.mean())
    if mean <= 0:
        return np.eye(len(covariance), dtype=np.complex64)
    roots = np.sqrt(mean / np.maximum(values, _LEAST_VARIANCE * values.max()))
    # The symmetric root: a coil stays nearly itself.
    matrix: NDArray[np.complex64] = ((vectors * roots) @ vectors.conj().T).astype(np.complex64)
    return matrix


def compression(y: KSpace, num_coils: int) -> tuple[NDArray[np.complex64], float]:
    """Orthonormal combinations (num_coils, coil) with the most energy, and the share of it they keep.

    Principal components, as in Buehrer et al. (2007, doi:10.1002/mrm.21237).
    """
    flat = np.moveaxis(y, 1, 0).reshape(y.shape[1], -1).astype(np.complex128)
    values, vectors = np.linalg.eigh(flat @ flat.conj().T)
    kept: NDArray[np.complex64] = vectors[:, ::-1][:, :num_coils].conj().T.astype(np.complex64)
    return kept, float(values[::-1][:num_coils].sum() / max(values.sum(), np.finfo(float).tiny))


def noise_covariance(samples: KSpace) -> NDArray[np.complex128]:
    """(coil, coil) of noise alone, (coil, sample)."""
    exact = samples.astype(np.complex128)
    covariance: NDArray[np.complex128] = exact @ exact.conj().T / max(1, samples.shape[1])
    return covariance


def estimate_noise(y: KSpace) -> float:
    """Standard deviation of the real part, and of the imaginary part, of the noise: (z, coil, ky, kx).

    From the outermost samples that were taken, by the median of their sizes in each coil, which few strong
    ones do not move; the median over coils. What signal there is makes it too large.
    """
    ky, kx = (np.abs(np.arange(n) - n // 2) / max(1, n // 2) for n in y.shape[2:])
    distance, found = np.maximum(ky[:, None], kx[None, :]), []
    where = distance[(y != 0).any(axis=(0, 1))]
    outer = distance > min(_OUTER, np.quantile(where, _OUTER)) if len(where) else distance > _OUTER
    for coil in range(y.shape[1]):
        samples = y[:, coil, outer]
        taken = samples[samples != 0]
        if len(taken):
            found.append(np.median(np.abs(np.stack([taken.real, taken.imag]))) / 0.6745)
    return float(np.median(found)) if found else 0.0


def why_not_espirit(num_coils: int, calibration: int) -> str | None:
    """What stands in its way; ``calibration`` is the side of the fully sampled square at the centre."""
    if num_coils == 1:
        return "one coil needs no sensitivity map"
    if calibration < _LEAST_CENTRE:
        return f"{calibration} x {calibration} samples at the centre, ESPIRiT needs {_LEAST_CENTRE}"
    if importlib.util.find_spec("sigpy") is None:
        return "ESPIRiT needs sigpy: pip install 'ddip-ray[mri]'"
    return None


def espirit(y: KSpace, calibration: int) -> KSpace:
    """Sensitivity maps (coil, y, x) of a slice (coil, ky, kx); their squares add up to 1 at each pixel.

    ESPIRiT's first set (Uecker et al. 2014, doi:10.1002/mrm.24751), by sigpy.
    """
    import sigpy.mri

    size = min(calibration, _LARGEST_CENTRE)
    app = sigpy.mri.app.EspiritCalib(
        y, size, _SINGULAR_VALUE, min(_KERNEL, size), _EIGENVALUE, show_pbar=False
    )  # fmt: skip
    maps: KSpace = app.run().astype(np.complex64)
    return maps
