"""DDNM, the denoising diffusion null-space model (Wang, Yu and Zhang, ICLR 2023, 2212.00490)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig, SamplerSettings
from ddip_ray.errors import InputError
from ddip_ray.prior.denoiser import Prior
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import LAST_CORRECTION, Carried, DataConsistencyFor
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.random import normal
from ddip_ray.solvers.core.steps import ddim_step, pseudo_inverse
from ddip_ray.solvers.sampling.sampler import SamplingMethod, build_sampler


class DDNM:
    """x0 = x0_hat + λ_t A†(y − A x0_hat): the range of Aᴴ from the data, its null space from the prior.

    Algorithm 1 of Wang, Yu and Zhang (Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model,
    ICLR 2023, 2212.00490), and with noise DDNM+ (section 3.3, algorithm 2). A† is CG until it has converged
    or the sampler's number of iterations is spent. With noise the data count less near the end, and the noise
    that A† brings into x0 is taken off the noise that is added; it is counted as white, as in the paper.
    """

    couples_slices = False

    def __init__(self, settings: SamplerSettings, schedule: NoiseSchedule, problem: SlabProblem) -> None:
        """DDNM for one problem.

        Args:
            settings: trajectory.
            schedule: the prior's noise schedule.
            problem: measurements, in the prior's image range.

        Raises:
            InputError: noisy measurements and ``eta`` 0.
        """
        self.settings, self.schedule, self.problem = settings, schedule, problem
        self.noise_std = 0.0  # of the noise that A† brings into x0
        if problem.noise_std > 0:
            if settings.eta == 0:
                raise InputError(
                    "sampler.eta is 0, and DDNM+ uses noisy measurements only as far as it adds noise: it "
                    "would ignore them",
                    "Give a larger sampler.eta, or use method dds",
                )
            A, is_complex = problem.central_operator or problem.operator, problem.y.is_complex()
            sample = normal((1, *A.measurement_shape), 0, is_complex=is_complex).to(problem.y.device)
            inverse = pseudo_inverse(A, sample, self.num_iterations(t_next=-1))
            parts = torch.view_as_real(inverse) if is_complex else inverse
            self.noise_std = problem.noise_std * float(parts.square().mean().sqrt())

    def apply(self, x0_hat: Tensor, t: int, t_next: int, carried: Carried) -> tuple[Tensor, Carried]:
        """x0_hat + λ_t A†(y − A x0_hat); implements `DataConsistency`."""
        misfit = self.problem.y - self.problem.operator.forward(x0_hat)
        # With noise the few iterations are what keeps A† from bringing more of it than was found above.
        starts_warm = self.settings.cg_warm_start and self.noise_std == 0
        guess = carried.get(LAST_CORRECTION) if starts_warm else None
        d = pseudo_inverse(self.problem.operator, misfit, self.num_iterations(t_next), guess)
        return x0_hat + self.trust(t_next) * d, {LAST_CORRECTION: d}

    def ddim_step(
        self, x_t: Tensor, x0: Tensor, eps_hat: Tensor, noise: Tensor, *, t: int, t_next: int
    ) -> Tensor:
        """A DDIM step with less new noise, for that which x0 has; implements `DataConsistency`."""
        alpha_bar = self.schedule.at(t_next)
        present = math.sqrt(alpha_bar) * self.trust(t_next) * self.noise_std
        fresh = math.sqrt(max(0.0, (1 - alpha_bar) * self.settings.eta**2 - present**2))
        without = ddim_step(x0, eps_hat, torch.zeros_like(noise), alpha_bar, self.settings.eta)
        return without + fresh * noise

    def trust(self, t_next: int) -> float:
        """λ_t: 1 while more noise is added than the data bring with them."""
        alpha_bar = self.schedule.at(t_next)
        present = math.sqrt(alpha_bar) * self.noise_std
        return 1.0 if present == 0 else min(1.0, math.sqrt(1 - alpha_bar) * self.settings.eta / present)

    def num_iterations(self, t_next: int) -> int:
        """CG iterations of A†; with noise always the few, as each amplifies noise where A is weak."""
        is_noisy = self.problem.noise_std > 0
        return self.settings.cg_iterations if is_noisy else self.settings.num_cg_iterations(t_next)


def data_consistency_for(config: RunConfig, prior: Prior) -> DataConsistencyFor:
    """The data consistency of DDNM for any problem in the prior's image range."""
    return lambda problem, communicator: DDNM(config.sampler, prior.schedule, problem)


def build(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: Prior) -> Method:
    """DDNM with a fixed prior.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: denoiser of slices.
    """
    own = data_consistency_for(config, prior)
    return SamplingMethod(build_sampler(config, problem, communicator, prior, own))
