"""DDIP: an adapter for every slice (Chung and Ye, ECCV 2024, 2407.10641), trained on its rescans."""

from __future__ import annotations

from ddip_ray.config.settings import RunConfig
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.adapting.d3ip import build_adaptive
from ddip_ray.solvers.adapting.per_slice import trainer_per_slice
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.sampling import dds


def build(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """D3IP with an adapter for every slice in place of one for the volume.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: the network that is adapted.
    """
    return build_adaptive(
        config,
        problem,
        communicator,
        prior,
        data_consistency_of=dds.data_consistency_for,
        trainer_for=trainer_per_slice,
    )
