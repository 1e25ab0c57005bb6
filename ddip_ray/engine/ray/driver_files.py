"""What a run needs of the driver's disk, for workers whose machines do not have it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ddip_ray.config.settings import RunConfig
from ddip_ray.prior.catalog import find_prior, shipped_priors
from ddip_ray.prior.formats import CHECKPOINTS, SIDECARS


@dataclass(frozen=True)
class Luggage:
    """Contents of files by setting and name; small against what Ray can carry, even for large priors."""

    files: dict[str, dict[str, bytes]]

    @classmethod
    def of(cls, config: RunConfig) -> Luggage:
        """The prior, unless it comes with the program, and the adapter to start from.

        Raises:
            InputError: there is no such prior.
        """
        files = {}
        if config.uses_prior and config.prior not in shipped_priors():
            path = find_prior(config.prior)
            # What its weights do not show may stand beside a checkpoint.
            beside = [path, *(path.with_suffix(suffix) for suffix in SIDECARS)]
            own, top = (beside, path.parent) if path.is_file() else (sorted(path.rglob("*")), path)
            files["prior"] = {str(file.relative_to(top)): file.read_bytes() for file in own if file.is_file()}
        if config.adapter is not None and Path(config.adapter).is_file():
            path = Path(config.adapter)
            files["adapter"] = {path.name: path.read_bytes()}
        return cls(files)

    @contextmanager
    def unpacked(self, config: RunConfig) -> Iterator[RunConfig]:
        """``config`` with paths that exist here, for as long as it takes to read them."""
        missing = {k: v for k, v in self.files.items() if not Path(getattr(config, k)).exists()}
        if not missing:
            yield config
            return
        with tempfile.TemporaryDirectory(prefix="ddip-ray-") as folder:
            paths = {}
            for setting, files in missing.items():
                place = Path(folder) / setting
                place.mkdir()
                for name, content in files.items():
                    (place / name).parent.mkdir(parents=True, exist_ok=True)
                    (place / name).write_bytes(content)
                is_folder = setting == "prior" and Path(config.prior).suffix not in CHECKPOINTS
                paths[setting] = str(place if is_folder else place / Path(getattr(config, setting)).name)
            yield config.model_copy(update=paths)
