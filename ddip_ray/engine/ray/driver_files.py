"""Files of the driver that workers need: the prior and the initial adapter."""

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
class DriverFiles:
    """Contents of files, by setting (``prior``, ``adapter``) and file name.

    Even a large prior is small compared with what Ray can carry.
    """

    files: dict[str, dict[str, bytes]]

    @classmethod
    def read(cls, config: RunConfig, adapter: bytes | None) -> DriverFiles:
        """Read the prior, unless it comes with the package.

        Args:
            config: the settings that name the prior and the initial adapter.
            adapter: contents of the initial adapter's file; None without one.

        Raises:
            InputError: there is no such prior.
        """
        files = {}
        if config.uses_prior and config.prior not in shipped_priors():
            path = find_prior(config.prior)
            # Files beside a checkpoint describe what its weights do not show.
            beside = [path, *(path.with_suffix(suffix) for suffix in SIDECARS)]
            own, top = (beside, path.parent) if path.is_file() else (sorted(path.rglob("*")), path)
            files["prior"] = {str(file.relative_to(top)): file.read_bytes() for file in own if file.is_file()}
        if config.adapter is not None and adapter is not None:
            files["adapter"] = {Path(config.adapter).name: adapter}
        return cls(files)

    @contextmanager
    def unpacked(self, config: RunConfig) -> Iterator[RunConfig]:
        """``config`` with paths that exist on this machine while the context lasts.

        Files that are missing here are written to a temporary folder.
        """
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
