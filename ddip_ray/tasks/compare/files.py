"""The files of a comparison beside its results: a table to read, a table to compute with, a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ddip_ray.io.paths import replace_file
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.tasks.compare.compare import Run
from ddip_ray.tasks.compare.picture import comparison_picture
from ddip_ray.tasks.compare.table import markdown, table
from ddip_ray.tasks.judge.volumes import read_own_reference, read_reference, read_result
from ddip_ray.units import finite_or_null


class ComparisonFiles:
    """The files ``compare.md``, ``compare.json`` and ``compare.png`` in a folder, each replaced whole."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store = folder, store
        self.markdown, self.json = folder / "compare.md", folder / "compare.json"

    def write_tables(self, runs: Sequence[Run]) -> None:
        """Write the Markdown and JSON tables of all runs so far."""
        text = f"# {self.store}\n\n{markdown(table(runs))}\n"
        replace_file(self.markdown, text.encode())
        document = {"store": self.store, "runs": [finite_or_null(asdict(run)) for run in runs]}
        replace_file(self.json, (json.dumps(document, indent=1) + "\n").encode())

    def write_picture(self, runs: Sequence[Run], reference: str | None) -> Path:
        """Draw the first seed of each method, and return the picture's path."""
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
        replace_file(path, comparison_picture(volumes, truth))
        return path
