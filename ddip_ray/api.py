"""The front door for Python: scans and volumes as tensors, and the engine by one call.

Names are exported lazily by `ddip_ray`, so that ``import ddip_ray`` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import Event, RunResult, StepEvent
from ddip_ray.engine.run import reconstruct as run_engine
from ddip_ray.io.images import open as images
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.acquisition import open_acquisition as open_store
from ddip_ray.io.stores.schema import AcquisitionMetadata
from ddip_ray.operators.base import LinearOperator
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.tasks.acquire.measurement_noise import parse_noise
from ddip_ray.tasks.acquire.simulate_ct import Scan
from ddip_ray.tasks.acquire.simulate_ct import simulate as simulate_store
from ddip_ray.tasks.judge.volumes import default_output


def load_image(path: str, window: tuple[float, float] | None = None) -> Tensor:
    """The image at ``path``, (z, y, x) float32, with ``window`` scaled to 0…1.

    ``path`` is a NIfTI, NumPy, TIFF or OME-Zarr file, or a folder of DICOM, TIFF or NumPy slices. Values
    beyond ``window`` (low, high, in the image's unit) are clipped; None clips nothing and takes -1000 to 1000
    for Hounsfield units, otherwise the 0.1 and 99.9 percentiles.

    Raises:
        InputError: nothing readable at ``path``, or a window without width.
    """
    return torch.from_numpy(images.load_image(path, window))


def simulate(
    image_path: str,
    output: str,
    num_views: int,
    *,
    angular_range_deg: float = 180.0,
    noise: str = "none",
    window: tuple[float, float] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> OpenAcquisition:
    """Scan an image in parallel-beam geometry, and write measurements and reference as a store.

    Args:
        image_path: an image as `load_image` takes it.
        output: path of the acquisition store to write, for example "vol.zarr".
        num_views: number of equally spaced views.
        angular_range_deg: angle that the views cover, in degrees.
        noise: "none", "gaussian:0.01" (standard deviation over the measurements' root mean square) or
            "poisson:1e5" (photons per detector pixel and view in air).
        window: intensities (low, high) that become 0…1; see `load_image`.
        seed: seed of the noise.
        overwrite: replace a store that is at ``output``.

    Raises:
        InputError: the image, the scan or the output is not what it should be; nothing is written then.
    """
    scan = Scan(
        num_views=num_views,
        angular_range_deg=angular_range_deg,
        noise=parse_noise(noise),
        window=window,
        seed=seed,
    )
    return OpenAcquisition(simulate_store(image_path, output, scan, overwrite=overwrite))


def open_acquisition(path: str) -> OpenAcquisition:
    """The acquisition store at ``path``, local or remote (``s3://``, ``gs://``).

    Raises:
        InputError: no acquisition there, or one that is damaged.
    """
    return OpenAcquisition(open_store(path))


@dataclass(frozen=True)
class OpenAcquisition:
    """A scan as tensors: ``y = A x + n`` for images ``x`` on about 0…1.

    For MRI the image's slowly varying phase is part of the operator, so that ``x`` is nearly real;
    `with_phase` puts it back.
    """

    store: Acquisition

    @property
    def metadata(self) -> AcquisitionMetadata:
        """Geometry, noise, orientation and units as stored."""
        return self.store.metadata

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) of the image."""
        return self.store.num_slices, *self.metadata.acquisition.image_shape

    def problem(self, start: int = 0, stop: int | None = None, device: str = "cpu") -> SlabProblem:
        """Operator, measurements and noise of slices [start, stop), all by default."""
        end = self.store.num_slices if stop is None else stop
        return load_problem(self.store, Slab(start, end), device)

    def operator(self, start: int = 0, stop: int | None = None, device: str = "cpu") -> LinearOperator:
        """The forward operator of slices [start, stop), all by default."""
        return self.problem(start, stop, device).operator

    def measurements(self, start: int = 0, stop: int | None = None, device: str = "cpu") -> Tensor:
        """Measurements of slices [start, stop), (z, *measurement_shape), scaled to images on 0…1."""
        return self.problem(start, stop, device).y

    @property
    def noise_std(self) -> float:
        """Standard deviation of an entry of `measurements`; 0 for noise-free or unknown noise."""
        return self.problem(0, 1).noise_std

    def reference(self) -> Tensor | None:
        """The reference image on 0…1, (z, y, x), or None if the store has none."""
        return torch.from_numpy(self.store.reference()) if self.store.has_reference else None

    def with_phase(self, x: Tensor) -> Tensor:
        """The complex image that ``x: (z, y, x)``, a reconstruction of all slices, stands for."""
        return self.problem(device=str(x.device)).with_phase(x)


def reconstruct(
    store: str,
    output: str | None = None,
    *,
    method: str = "d3ip",
    config: RunConfig | None = None,
    settings: dict[str, Any] | None = None,
    progress: bool = False,
    **engine: Any,
) -> RunResult:
    """Reconstruct an acquisition store into an OME-Zarr image, on Ray workers or in this process.

    Args:
        store: path of the acquisition.
        output: path of the result; None is STORE-METHOD.zarr beside the store.
        method: a name in `ddip_ray.methods`; its default settings hold.
        config: all settings, instead of ``method`` and ``settings``.
        settings: fields of `RunConfig` that differ from the method's defaults, sections as mappings.
        progress: show a progress bar, in a terminal or a notebook.
        **engine: where and how it runs, as for `ddip_ray.engine.run.reconstruct`: ``num_gpus``,
            ``num_workers``, ``executor``, ``layout``, ``resilience``, ``overwrite`` …

    Returns:
        Where the result is, its residual, network calls and times.

    Raises:
        InputError: anything the user can mend; nothing is written then.
    """
    config = config or RunConfig.for_method(method, **(settings or {}))
    target = output or default_output(store, config.method)
    if not progress:
        return run_engine(store, target, config, **engine)
    from tqdm.auto import tqdm

    with tqdm(desc=config.method, unit="step") as bar:
        return run_engine(store, target, config, on_event=_shown_on(bar), **engine)


def _shown_on(bar: Any) -> Callable[[Event], None]:
    """A listener that moves ``bar`` with the engine's steps and prints its messages above it."""

    def on_event(event: Event) -> None:
        if isinstance(event, StepEvent):
            bar.total, bar.n = event.num_steps, event.step
            bar.set_postfix(residual=f"{event.residual:.4f}")
        else:
            bar.write(event.text)

    return on_event
