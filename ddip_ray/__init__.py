"""ddip-ray: 3D reconstruction from few measurements with an adapted 2D diffusion prior.

The public names are loaded when they are first used, so that ``import ddip_ray`` stays quick::

    import ddip_ray as dr

    image = dr.load_image("ct.nii.gz", window=(-1000, 1000))
    A = dr.operators.ParallelBeam.equispaced(image.shape[1:], num_views=30)
    x = dr.solve(A, A(image), "default", method="dds")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> module that defines it; None: a module of that name in this package
_PUBLIC: dict[str, str | None] = {
    "InputError": "ddip_ray.errors",
    "Layout": "ddip_ray.engine.planning.layout",
    "OpenAcquisition": "ddip_ray.api",
    "Resilience": "ddip_ray.engine.run",
    "RunConfig": "ddip_ray.config.settings",
    "Step": "ddip_ray.solvers.solve",
    "iterate": "ddip_ray.solvers.solve",
    "load_image": "ddip_ray.api",
    "load_prior": "ddip_ray.prior.load",
    "open_acquisition": "ddip_ray.api",
    "open_result": "ddip_ray.io.stores.result",
    "operators": None,
    "psnr": "ddip_ray.tasks.judge.scores",
    "reconstruct": "ddip_ray.api",
    "simulate": "ddip_ray.api",
    "solve": "ddip_ray.solvers.solve",
    "ssim": "ddip_ray.tasks.judge.scores",
}

if TYPE_CHECKING:
    from ddip_ray import operators
    from ddip_ray.api import OpenAcquisition, load_image, open_acquisition, reconstruct, simulate
    from ddip_ray.config.methods import METHODS as methods
    from ddip_ray.config.settings import RunConfig
    from ddip_ray.engine.planning.layout import Layout
    from ddip_ray.engine.run import Resilience
    from ddip_ray.errors import InputError
    from ddip_ray.io.stores.result import open_result
    from ddip_ray.prior.load import load_prior
    from ddip_ray.solvers.solve import Step, iterate, solve
    from ddip_ray.tasks.judge.scores import psnr, ssim

__all__ = [
    "InputError",
    "Layout",
    "OpenAcquisition",
    "Resilience",
    "RunConfig",
    "Step",
    "iterate",
    "load_image",
    "load_prior",
    "methods",
    "open_acquisition",
    "open_result",
    "operators",
    "psnr",
    "reconstruct",
    "simulate",
    "solve",
    "ssim",
]


def __getattr__(name: str) -> Any:
    """A public name, imported at its first use."""
    if name == "methods":
        return import_module("ddip_ray.config.methods").METHODS
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ddip_ray' has no attribute {name!r}")
    module = _PUBLIC[name]
    return import_module(f"ddip_ray.{name}") if module is None else getattr(import_module(module), name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return [*__all__, "__version__"]
