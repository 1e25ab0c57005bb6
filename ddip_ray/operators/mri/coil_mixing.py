"""Linear combinations of coils: noise whitening and coil compression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAST_VARIANCE = 1e-6  # of the largest: less is a coil that is not connected


def whitening(covariance: NDArray[np.complex128]) -> NDArray[np.complex64]:
    """Return the matrix (coil, coil) that gives all coils the mean variance and removes covariances."""
    values, vectors = np.linalg.eigh(covariance)
    mean = float(values.mean())
    if mean <= 0:
        return np.eye(len(covariance), dtype=np.complex64)
    roots = np.sqrt(mean / np.maximum(values, _LEAST_VARIANCE * values.max()))
    # The symmetric root: a coil stays nearly itself.
    matrix: NDArray[np.complex64] = ((vectors * roots) @ vectors.conj().T).astype(np.complex64)
    return matrix


def compression(y: NDArray[np.complex64], num_coils: int) -> tuple[NDArray[np.complex64], float]:
    """Return the orthonormal combinations (num_coils, coil) with the most energy, and their share of it.

    They are the principal components, as in Buehrer et al. (Array Compression for MRI with Large Coil Arrays,
    Magnetic Resonance in Medicine 2007, doi:10.1002/mrm.21237). ``y`` is (z, coil, ky, kx).
    """
    flat = np.moveaxis(y, 1, 0).reshape(y.shape[1], -1).astype(np.complex128)
    values, vectors = np.linalg.eigh(flat @ flat.conj().T)
    kept: NDArray[np.complex64] = vectors[:, ::-1][:, :num_coils].conj().T.astype(np.complex64)
    return kept, float(values[::-1][:num_coils].sum() / max(values.sum(), np.finfo(float).tiny))


def noise_covariance(samples: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """Return the covariance (coil, coil) of samples of noise alone, (coil, sample)."""
    exact = samples.astype(np.complex128)
    covariance: NDArray[np.complex128] = exact @ exact.conj().T / max(1, samples.shape[1])
    return covariance
