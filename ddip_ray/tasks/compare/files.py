"""What a comparison leaves beside its results: a table to read, one to compute with, a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.tasks.compare.compare import Run
from ddip_ray.tasks.compare.picture import comparison_picture
from ddip_ray.tasks.compare.table import markdown, table
from ddip_ray.tasks.judge.volumes import read_own_reference, read_reference, read_result


class ComparisonFiles:
    """``compare.md``, ``compare.json`` and ``compare.png`` in ``folder``; each is replaced whole."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store = folder, store
        self.markdown, self.json = folder / "compare.md", folder / "compare.json"

    def write_tables(self, runs: Sequence[Run]) -> None:
        text = f"# {self.store}\n\n{markdown(table(runs))}\n"
        _replace(self.markdown, text.encode())
        document = {"store": self.store, "runs": [_finite(asdict(run)) for run in runs]}
        _replace(self.json, (json.dumps(document, indent=1) + "\n").encode())

    def write_picture(self, runs: Sequence[Run], reference: str | None) -> Path:
        """The first seed of each method."""
        firsts = {run.name: run for run in reversed(runs)}
        volumes, truth = {}, None
        acquisition = open_acquisition(self.store)
        for name in dict.fromkeys(run.name for run in runs):
            result = open_result(firsts[name].result)
            intensity = result.intensity
            score = firsts[name].psnr
            title = name if score is None else f"{name}\n{score:.2f} dB"
            volumes[title] = read_result(result, intensity)
        if reference is not None:
            truth = read_reference(reference, intensity, result.metadata.unit)
        elif acquisition.has_reference:
            truth = read_own_reference(acquisition)
        path = self.folder / "compare.png"
        _replace(path, comparison_picture(volumes, truth))
        return path


def _replace(path: Path, data: bytes) -> None:
    """A reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def _finite(value: Any) -> Any:
    """JSON has no infinity: the PSNR of a perfect result becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
