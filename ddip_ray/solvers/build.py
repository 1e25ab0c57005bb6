"""From a configuration and a slab of measurements to the method that reconstructs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ddip_ray.adaptation.lora import Adapter
from ddip_ray.config.settings import RunConfig
from ddip_ray.errors import InputError
from ddip_ray.prior.catalog import find_prior
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.load import load_prior
from ddip_ray.solvers.adapting.d3ip import D3IP
from ddip_ray.solvers.adapting.per_slice import PerSlice
from ddip_ray.solvers.adapting.reptile import Reptile
from ddip_ray.solvers.adapting.rescan_loss import TwinPlan
from ddip_ray.solvers.adapting.scd import SCD
from ddip_ray.solvers.adapting.trainer import Learner
from ddip_ray.solvers.classical.direct import CG, FBP, ZeroFilled
from ddip_ray.solvers.classical.total_variation import TotalVariation
from ddip_ray.solvers.core.communicator import Alone, Communicator
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.sampling.ddnm import DDNM
from ddip_ray.solvers.sampling.dds import DDS
from ddip_ray.solvers.sampling.diffpir import DiffPIR
from ddip_ray.solvers.sampling.dps import DPS
from ddip_ray.solvers.sampling.mbir import DiffusionMBIR
from ddip_ray.solvers.sampling.mbir_published import ADMM
from ddip_ray.solvers.sampling.predictor_corrector import PredictorCorrector
from ddip_ray.solvers.sampling.sampler import Rule, RuleFor, Sampler
from ddip_ray.solvers.validating.adaptation_strength import Validation
from ddip_ray.solvers.validating.noise_level import NoiseSearch

# (config, problem, communicator, prior or None) -> the method, ready for its first step
Builder = Callable[[RunConfig, SlabProblem, Communicator, Any], Method]


def build_method(config: RunConfig, problem: SlabProblem, communicator: Communicator) -> Method:
    """The configured method, ready for its first step.

    Raises:
        InputError: prior or adapter missing or not belonging together.
    """
    if not config.uses_prior:
        return builder_of(config)(config, problem, communicator, None)
    prior = load_prior(find_prior(config.prior), problem.y.device, config.micro_batch)
    return with_prior(config, problem, communicator, prior)


def builder_of(config: RunConfig) -> Builder:
    """The function that the method's row in the table of methods names."""
    module, _, name = config.row.builder.partition(":")
    builder: Builder = getattr(import_module(module), name)
    return builder


def build_fbp(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: object) -> Method:
    """Filtered back-projection."""
    return FBP(problem, communicator, config.fbp)


def build_zero_filled(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: object
) -> Method:
    """Zero filling."""
    return ZeroFilled(problem, communicator)


def build_cg(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: object) -> Method:
    """Conjugate gradients."""
    return CG(problem, communicator, config.cg)


def build_tv(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: object) -> Method:
    """3D total variation."""
    return TotalVariation(problem, communicator, config.tv)


def build_dps(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """Diffusion posterior sampling."""
    return DPS(problem, communicator, prior, config.dps, config.seed)


def build_sampler(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """A sampler with a fixed prior."""
    rule = rule_for(config, prior)
    if predicts(config):
        settings = config.predictor_corrector
        return PredictorCorrector(problem, communicator, prior, settings, config.seed, rule_for=rule)
    return Sampler(problem, communicator, prior, config.sampler, config.seed, rule_for=rule)


def with_prior(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """`build_method` for the methods that have a prior.

    Raises:
        InputError: a prior of complex images for real ones, or of fewer timesteps than are asked for.
    """
    if prior.num_channels == 2 and not problem.y.is_complex():
        raise InputError(
            f"prior {config.prior} has two channels, for complex images; these are real",
            "Give a prior of one channel",
        )
    check_timesteps(config, prior.schedule.num_train_timesteps)
    if not searches_noise(config, problem):
        return builder_of(config)(config, problem, communicator, prior)

    def method_for(factor: float) -> Method:
        known = replace(problem, noise_std=factor * problem.noise_std)
        return builder_of(config)(config, known, communicator, prior)

    plain = config.sampler.model_copy(update={"start": "noise", "start_t": None})  # sees no held-out ray
    rule = rule_for(config.model_copy(update={"method": "dds"}), prior)
    trial = Sampler(problem, communicator, prior, plain, config.seed, rule_for=rule)
    return NoiseSearch(trial, config.noise, method_for)


def check_timesteps(config: RunConfig, num_train_timesteps: int) -> None:
    """InputError where the trajectory needs timesteps that the prior was not trained with."""
    if config.method == "dps":
        asked = [("dps.num_steps", config.dps.num_steps, num_train_timesteps)]
    elif predicts(config):
        asked = [("predictor_corrector.num_steps", config.predictor_corrector.num_steps, num_train_timesteps)]
    else:
        asked = [
            ("sampler.num_steps", config.sampler.num_steps, num_train_timesteps),
            ("sampler.start_t", config.sampler.start_t or 0, num_train_timesteps - 1),
        ]
    for field, found, most in asked:
        if found > most:
            raise InputError(f"{field}: found {found}, the prior {config.prior} has {most} at most")


def predicts(config: RunConfig) -> bool:
    """Whether the trajectory is the VE-SDE's."""
    published = config.method == "diffusionmbir" and config.mbir.trajectory == "predictor_corrector"
    return config.method == "score-sde" or published


def searches_noise(config: RunConfig, problem: SlabProblem) -> bool:
    """Whether the noise is but an estimate, and the method listens to it."""
    return (
        config.noise.level == "auto"
        and problem.noise_is_estimated
        and problem.noise_std > 0
        and config.sampler.gamma is None
        and config.row.chooses_noise_level
        and not predicts(config)
    )


def build_adaptive(
    config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: DiffusionPrior
) -> Method:
    """A sampler whose network is adapted."""
    rule = rule_for(config, prior)
    sampler = Sampler(problem, communicator, prior, config.sampler, config.seed, rule_for=rule)
    learner = learner_for(config, sampler)
    if config.adaptation.loss == "measurements":
        return SCD(sampler, learner, config.scd, rule_for(judging(config), prior))
    validation = None
    if config.adaptation.policy == "auto" and learner.adapter is not None:
        validation = Validation(sampler, config.validation, learner.adapter)
    alone = config.model_copy(update={"method": "dds"})  # no twin has neighbours
    plan = TwinPlan.of(
        config.adaptation,
        sampler,
        num_teaching=learner.num_teaching,
        num_drawn=learner.num_drawn,
        rule_for=rule_for(alone, prior),
        judging_rule=rule_for(judging(alone), prior),
    )
    return D3IP(sampler, learner, plan, validation)


def learner_for(config: RunConfig, sampler: Sampler) -> Learner | Reptile | PerSlice:
    """One adapter for the volume, or one for each slice."""
    given = load_adapter(config, sampler.prior)

    def of(slices: Slab, communicator: Communicator) -> Learner:
        own = None if given is None else given.copy()
        return Learner(sampler, config.adaptation, slices, communicator, own)

    if not config.row.adapter_is_shared:
        return PerSlice(sampler, lambda one: of(one, Alone()))
    single = of(Slab(0, sampler.problem.num_slices), sampler.communicator)
    return Reptile(single, config.meta) if config.method == "d3ip-meta" else single


def judging(config: RunConfig) -> RunConfig:
    """With the data consistency before the loss: of DiffusionMBIR two sweeps, as one knows no neighbours."""
    own = config.adaptation.loss_cg_iterations
    num_iterations = {"cg_iterations": own, "final_cg_iterations": own}
    update = {
        "sampler": config.sampler.model_copy(update=num_iterations),
        "mbir": config.mbir.model_copy(update={"sweeps": 2 if config.mbir.admm is None else 1}),
    }
    return config.model_copy(update=update)


def rule_for(config: RunConfig, prior: DiffusionPrior) -> RuleFor:
    """Parts 2 and 3 of the configured method's step, for any problem in the prior's image range."""
    settings, schedule = config.sampler, prior.schedule
    low, high = prior.image_range

    def rule(problem: SlabProblem, communicator: Communicator) -> Rule:
        match config.method:
            case "ddnm":
                return DDNM(settings, schedule, problem)
            case "diffpir":
                return DiffPIR(config.diffpir, settings, schedule, problem)
            case "diffusionmbir" | "d3ip-mbir":
                dds, admm = DDS(settings, schedule, problem), config.mbir.admm
                if admm is not None:
                    return ADMM(config.mbir, admm, dds, communicator, problem, image_scale=high - low)
                return DiffusionMBIR(config.mbir, dds, communicator, problem)
        return DDS(settings, schedule, problem)

    return rule


def read_adapter(config: RunConfig) -> bytes | None:
    """The file of the adapter to start from, if one is configured."""
    if config.adapter is None:
        return None
    try:
        return Path(config.adapter).read_bytes()
    except OSError as error:
        raise InputError(f"adapter {config.adapter} cannot be read ({error})") from error


def load_adapter(config: RunConfig, prior: DiffusionPrior) -> Adapter | None:
    """The adapter to start from, if one is configured."""
    data = read_adapter(config)
    if data is None:
        return None
    adapter = Adapter.from_bytes(data, prior.network, prior.digest, name=f"adapter {config.adapter}")
    found, asked = adapter.config, config.adaptation
    if (found.rank, found.scale) != (asked.lora_rank, asked.lora_scale):
        raise InputError(
            f"adapter {config.adapter} has lora_rank {found.rank} and lora_scale {found.scale:g}, "
            f"adaptation asks for {asked.lora_rank} and {asked.lora_scale:g}",
            f"Set adaptation: {{lora_rank: {found.rank}, lora_scale: {found.scale:g}}} in the --config",
        )
    return adapter
