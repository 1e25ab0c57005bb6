"""DiffusionMBIR: total variation along z in the data consistency (Chung et al., CVPR 2023, 2211.10655)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.operators.conjugate_gradient import cg
from ddip_ray.operators.protocol import gram
from ddip_ray.operators.proximal import soft_threshold
from ddip_ray.solvers.communicator import Communicator
from ddip_ray.solvers.coupling import SliceCoupling
from ddip_ray.solvers.dds import DDS
from ddip_ray.solvers.problem import SlabProblem
from ddip_ray.solvers.sampler import Denoised
from ddip_ray.solvers.settings import MBIRSettings
from ddip_ray.solvers.slab import Slab


class DiffusionMBIR:
    """argmin ½ ‖(A x − y)/‖A‖‖² + ½ ‖x − x0_hat‖²/(γ ‖A‖²) + λ ‖D_z x‖₁ from x0_hat, by ADMM on d = D_z x.

    Fast: one sweep a timestep, with split and scaled dual kept from timestep to timestep (the paper's
    algorithm 2). Slow: each timestep starts anew and sweeps to convergence. The 2D prior knows nothing of
    z; D_z couples the slabs, by one slice at each end and CG's scalars.
    """

    couples_slices = True

    def __init__(
        self, settings: MBIRSettings, dds: DDS, communicator: Communicator, problem: SlabProblem
    ) -> None:
        self.settings, self.dds, self.problem = settings, dds, problem
        k = problem.num_copies
        slab = Slab(problem.slab.start // k, problem.slab.stop // k)
        self.coupling = SliceCoupling(communicator, slab, problem.num_slices // k)
        self.weight = 1 / problem.operator_norm() ** 2
        self.Aty = self.volumes(self.weight * problem.operator.adjoint(problem.y))
        self.split = self.dual = torch.zeros_like(self.Aty)

    def consistent(self, denoised: Denoised) -> Tensor:
        settings, D_z = self.settings, self.coupling
        if settings.cold:
            self.split = self.dual = torch.zeros_like(self.Aty)
        x0_hat = self.volumes(denoised.x0_hat)
        gamma = self.dds.gamma(denoised.t)
        pull = 0.0 if math.isinf(gamma) else self.weight / gamma

        def system(x: Tensor) -> Tensor:
            smooth = D_z.difference_adjoint(D_z.difference(x))
            return self.gram(x) + settings.rho * smooth + pull * x

        x = x0_hat
        for _ in range(settings.sweeps):
            right = self.Aty + settings.rho * D_z.difference_adjoint(self.split - self.dual) + pull * x0_hat
            x = cg(system, right, x, settings.cg_iterations, dot=D_z.dot).x
            raised = D_z.difference(x) + self.dual
            self.split = soft_threshold(raised, settings.lam / settings.rho)
            self.dual = raised - self.split
        return x.flatten(0, 1)

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        return self.dds.move_on(x0, denoised, noise)

    def gram(self, x: Tensor) -> Tensor:
        return self.volumes(self.weight * gram(self.problem.operator, x.flatten(0, 1)))

    def volumes(self, x: Tensor) -> Tensor:
        """(z · copies, y, x) as (z, copies, y, x): slices of the same copy are neighbours along z."""
        return x.reshape(-1, self.problem.num_copies, *x.shape[1:])
