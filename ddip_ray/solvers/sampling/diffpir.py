"""DiffPIR, plug-and-play image restoration on a diffusion trajectory (Zhu et al., 2023, 2305.08995)."""

from __future__ import annotations

import math

from torch import Tensor

from ddip_ray.config.settings import DiffPIRSettings, RunConfig, SamplerSettings
from ddip_ray.prior.denoiser import Prior
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import LAST_CORRECTION, Carried, DataConsistencyFor
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.steps import correction, ddim_step
from ddip_ray.solvers.sampling.sampler import SamplingMethod, build_sampler

_NOISE_FLOOR = 1e-3  # of ‖A‖: clean data get a finite weight too, as in the paper's code


class DiffPIR:
    """x0 = argmin ‖y − A x‖² + ρ_t ‖x − x0_hat‖² with ρ_t = λ σ²/σ_t², solved by CG.

    Algorithm 1 of Zhu et al. (Denoising Diffusion Models for Plug-and-Play Image Restoration, CVPR Workshops
    2023, 2305.08995). The noise estimate is then made anew, from x_t and that x0: the second difference from
    DDS. The paper's ζ is η².
    """

    couples_slices = False

    def __init__(
        self, own: DiffPIRSettings, settings: SamplerSettings, schedule: NoiseSchedule, problem: SlabProblem
    ) -> None:
        """DiffPIR for one problem.

        Args:
            own: DiffPIR's own settings.
            settings: trajectory.
            schedule: the prior's noise schedule.
            problem: measurements, in the prior's image range.
        """
        self.lam, self.settings, self.schedule, self.problem = own.lam, settings, schedule, problem
        self.noise_std = max(problem.noise_std, _NOISE_FLOOR * problem.operator_norm())

    def apply(self, x0_hat: Tensor, t: int, t_next: int, carried: Carried) -> tuple[Tensor, Carried]:
        """Minimise ‖y − A x‖² + ρ_t ‖x − x0_hat‖²; implements `DataConsistency`."""
        alpha_bar = self.schedule.at(t)
        rho = self.lam * self.noise_std**2 * alpha_bar / (1 - alpha_bar)
        num_iterations = self.settings.num_cg_iterations(t_next)
        guess = carried.get(LAST_CORRECTION) if self.settings.cg_warm_start else None
        A, y = self.problem.operator, self.problem.y
        d = correction(A, y, x0_hat, 1 / rho, num_iterations, guess=guess)
        return x0_hat + d, {LAST_CORRECTION: d}

    def ddim_step(
        self, x_t: Tensor, x0: Tensor, eps_hat: Tensor, noise: Tensor, *, t: int, t_next: int
    ) -> Tensor:
        """A DDIM step with the noise estimate that x_t and x0 imply; implements `DataConsistency`."""
        alpha_bar = self.schedule.at(t)
        eps_hat = (x_t - math.sqrt(alpha_bar) * x0) / math.sqrt(1 - alpha_bar)
        return ddim_step(x0, eps_hat, noise, self.schedule.at(t_next), self.settings.eta)


def data_consistency_for(config: RunConfig, prior: Prior) -> DataConsistencyFor:
    """The data consistency of DiffPIR for any problem in the prior's image range."""
    return lambda problem, communicator: DiffPIR(config.diffpir, config.sampler, prior.schedule, problem)


def build(config: RunConfig, problem: SlabProblem, communicator: Communicator, prior: Prior) -> Method:
    """DiffPIR with a fixed prior.

    Args:
        config: configuration of the run.
        problem: measurements of the slab, in the acquisition's normalised units.
        communicator: the workers of the other slabs.
        prior: denoiser of slices.
    """
    own = data_consistency_for(config, prior)
    return SamplingMethod(build_sampler(config, problem, communicator, prior, own))
