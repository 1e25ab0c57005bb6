"""The abdominal CT of ../shared/data, on which most benchmarks measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CT = Path(__file__).parents[2] / "shared" / "data" / "ct_abdomen_totalseg" / "ct_abdomen_128.npz"


def binned(path: Path, k: int) -> NDArray[np.float32]:
    """The volume (z, y, x) of an .npz, averaged over k² pixels of a slice."""
    with np.load(path) as file:
        volume = file["volume"]
    z, y, x = volume.shape
    blocks: NDArray[np.float32] = volume.reshape(z, y // k, k, x // k, k).mean(axis=(2, 4)).astype(np.float32)
    return blocks
