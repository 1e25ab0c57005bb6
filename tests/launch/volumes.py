"""Results, read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddip_ray.io.stores.result import open_result


def volume(path: Path) -> np.ndarray:
    result = open_result(str(path))
    return result.read(0, result.shape[0])
