"""DDS, decomposed diffusion sampling (Chung, Lee and Ye, ICLR 2024, 2303.05754, algorithm 2)."""

from __future__ import annotations

import math

from torch import Tensor

from ddip_ray.config.settings import RunConfig, SamplerSettings
from ddip_ray.prior.denoiser import Prior
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import LAST_CORRECTION, Carried, DataConsistencyFor
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.steps import correction, ddim_step
from ddip_ray.solvers.sampling.sampler import SamplingMethod, build_sampler


class DDS:
    """Correct the denoised image by a few CG iterations, then add the noise estimate mixed with new noise."""

    couples_slices = False

    def __init__(self, settings: SamplerSettings, schedule: NoiseSchedule, problem: SlabProblem) -> None:
        self.settings, self.schedule, self.problem = settings, schedule, problem

    def apply(self, x0_hat: Tensor, t: int, t_next: int, carried: Carried) -> tuple[Tensor, Carried]:
        """A few CG iterations on γ/2 ‖A x − y‖² + ½ ‖x − x0_hat‖²; implements `DataConsistency`.

        γ = ∞ is least squares, started at x0_hat.
        """
        d = self.correction(x0_hat, t, t_next, carried.get(LAST_CORRECTION))
        return x0_hat + d, {LAST_CORRECTION: d}

    def correction(self, x0_hat: Tensor, t: int, t_next: int, last: Tensor | None) -> Tensor:
        """The change that the data make to the denoised image, (z, y, x).

        Args:
            x0_hat: denoised image, (z, y, x).
            t: timestep at which it was denoised.
            t_next: timestep that the step leads to.
            last: the change in the step before, from which CG starts; None: from zero.
        """
        num_iterations = self.settings.num_cg_iterations(t_next)
        guess = last if self.settings.cg_warm_start else None
        A, y = self.problem.operator, self.problem.y
        return correction(A, y, x0_hat, self.gamma(t), num_iterations, guess=guess)

    def ddim_step(
        self, x_t: Tensor, x0: Tensor, eps_hat: Tensor, noise: Tensor, *, t: int, t_next: int
    ) -> Tensor:
        """√ᾱ x0 + √(1−ᾱ) (η z + √(1−η²) eps_hat), with ᾱ at ``t_next`` and z = ``noise``.

        Implements `DataConsistency`. η is the share of new noise, which is not DDIM's η: η = 1 drops eps_hat.
        """
        return ddim_step(x0, eps_hat, noise, self.schedule.at(t_next), self.settings.eta)

    def gamma(self, t: int) -> float:
        """Weight of the data against the denoised image at timestep ``t``.

        A given γ is divided by ‖A‖². If none is given, γ is the error variance of x0_hat over that of y, with
        ``data_trust`` · min(1, (1−ᾱ)/ᾱ) as the former; it is infinite for noise-free data. The error of
        x0_hat is larger where A measures weakly, which one variance cannot express; ``data_trust`` scales it.
        """
        if self.settings.gamma == "infinite":
            return math.inf
        if self.settings.gamma is not None:
            return self.settings.gamma / self.problem.operator_norm() ** 2
        if self.problem.noise_std == 0:
            return math.inf
        alpha_bar = self.schedule.at(t)
        return self.settings.data_trust * min(1.0, (1 - alpha_bar) / alpha_bar) / self.problem.noise_std**2


def data_consistency_for(config: RunConfig, prior: Prior) -> DataConsistencyFor:
    """The data consistency of DDS for any problem in the prior's image range."""
    return lambda problem, communicator: DDS(config.sampler, prior.schedule, problem)


def build(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: Prior) -> Method:
    """DDS with a fixed prior.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: denoiser of slices.
    """
    own = data_consistency_for(config, prior)
    return SamplingMethod(build_sampler(config, problem, communicator, prior, own))
