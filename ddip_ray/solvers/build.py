"""From a configuration and a slab of measurements to the method that reconstructs it."""

from __future__ import annotations

from pathlib import Path

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.errors import InputError
from ddip_ray.prior.catalog import find_prior
from ddip_ray.prior.network import load_prior
from ddip_ray.solvers.classical import CG, FBP
from ddip_ray.solvers.communicator import Communicator
from ddip_ray.solvers.d3ip import D3IP
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.method import Method
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.settings import RunConfig
from ddip_ray.solvers.total_variation import TotalVariation


def build_method(config: RunConfig, problem: SlabProblem, communicator: Communicator) -> Method:
    """The configured method, ready for its first step.

    Raises:
        InputError: prior or adapter missing or not belonging together.
    """
    match config.method:
        case "fbp":
            return FBP(problem, communicator, config.fbp)
        case "cg":
            return CG(problem, communicator, config.cg)
        case "tv":
            return TotalVariation(problem, communicator, config.tv)
    prior = load_prior(find_prior(config.prior), problem.y.device)
    dds = DDS(problem, communicator, prior, config.sampler, config.seed)
    if config.method == "dds":
        return dds
    adapter = None
    if config.adapter is not None:
        try:
            data = Path(config.adapter).read_bytes()
        except OSError as error:
            raise InputError(f"adapter {config.adapter} cannot be read ({error})") from error
        adapter = Adapter.from_bytes(data, prior.network, prior.digest, name=f"adapter {config.adapter}")
    return D3IP(dds, config.adaptation, adapter)
