"""From a configuration and a slab of measurements to the method that reconstructs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from ddip_ray.config.settings import RunConfig
from ddip_ray.errors import InputError
from ddip_ray.prior.catalog import find_prior
from ddip_ray.prior.denoiser import Denoiser, DiffusionPrior, as_prior
from ddip_ray.prior.load import load_prior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.sampling import dds
from ddip_ray.solvers.sampling.sampler import build_sampler
from ddip_ray.solvers.validating.noise_level import NoiseSearch

# The configuration, the slab's problem in the acquisition's normalised units, the workers of the other slabs
# and the prior (None for classical methods) -> the method, ready for its first step.
Builder = Callable[[RunConfig, SlabProblem, Communicator, Any], Method]


def build_method(config: RunConfig, problem: SlabProblem, communicator: Communicator) -> Method:
    """The configured method with the configured prior, ready for its first step.

    Raises:
        InputError: prior or adapter are missing or do not belong together.
    """
    if not config.uses_prior:
        return builder_of(config)(config, problem, communicator, None)
    prior = load_prior(find_prior(config.prior), problem.y.device, config.micro_batch)
    return build_with_prior(config, problem, communicator, prior)


def build_with_prior(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, denoiser: Denoiser
) -> Method:
    """The configured method with any denoiser as prior, ready for its first step.

    Args:
        config: configuration of the run; its ``prior`` and ``micro_batch`` are not read.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        denoiser: the prior. Methods that adapt it need a `DiffusionPrior`.

    Raises:
        InputError: the prior is for complex images and the images are real, it has no network to adapt, or
            fewer timesteps than are asked for.
    """
    prior = as_prior(denoiser)
    if prior.num_channels == 2 and not problem.y.is_complex():
        raise InputError(
            f"prior {config.prior} has two channels, for complex images; these are real",
            "Give a prior of one channel",
        )
    if config.row.adapts and not isinstance(prior, DiffusionPrior):
        raise InputError(
            f"{config.method} adapts a network's weights, which the prior {prior.name} does not have",
            "Give a DiffusionPrior, or use a method that does not adapt",
        )
    if not searches_noise_level(config, problem):
        return builder_of(config)(config, problem, communicator, prior)

    def build_at_noise_level(factor: float) -> Method:
        known = replace(problem, noise_std=factor * problem.noise_std)
        return builder_of(config)(config, known, communicator, prior)

    return NoiseSearch(
        build_sampler(
            _without_start(config), problem, communicator, prior, dds.data_consistency_for(config, prior)
        ),
        config.noise,
        build_at_noise_level,
    )


def builder_of(config: RunConfig) -> Builder:
    """The function that the method's row in the table of methods names."""
    module, _, name = config.row.builder.partition(":")
    builder: Builder = getattr(import_module(module), name)
    return builder


def searches_noise_level(config: RunConfig, problem: SlabProblem) -> bool:
    """Whether the noise level is only an estimate, and the method depends on it."""
    return (
        config.noise.level == "auto"
        and problem.noise_is_estimated
        and problem.noise_std > 0
        and config.sampler.gamma is None
        and config.row.chooses_noise_level
        and not uses_ve_sde(config)
    )


def uses_ve_sde(config: RunConfig) -> bool:
    """Whether DiffusionMBIR's trajectory is the VE-SDE's."""
    return "mbir" in config.row.sections and config.mbir.trajectory == "predictor_corrector"


def _without_start(config: RunConfig) -> RunConfig:
    """The configuration of trials, which start from noise: an initial image has seen the held-out data."""
    plain = config.sampler.model_copy(update={"start": "noise", "start_t": None})
    return config.model_copy(update={"sampler": plain})
