"""DiffusionMBIR: total variation along z in the data consistency (Chung et al., CVPR 2023, 2211.10655)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.operators.conjugate_gradient import Blocks, cgls
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
        self.scale = 1 / problem.operator_norm()
        self.y = self.scale * self.volumes(problem.y)
        nothing = problem.y.new_zeros(len(problem.y), *problem.operator.image_shape)
        self.split = self.dual = self.volumes(nothing)

    def consistent(self, denoised: Denoised) -> Tensor:
        settings, D_z = self.settings, self.coupling
        if settings.cold:
            self.split = self.dual = torch.zeros_like(self.split)
        x = x0_hat = self.volumes(denoised.x0_hat)
        gamma = self.dds.gamma(denoised.t)
        pull = 0.0 if math.isinf(gamma) else self.scale / math.sqrt(gamma)
        stiff = math.sqrt(settings.rho)

        def forward(x: Tensor) -> Blocks:
            return self.measure(x), stiff * D_z.difference(x), pull * x

        def adjoint(r: Blocks) -> Tensor:
            return self.measure_adjoint(r[0]) + stiff * D_z.difference_adjoint(r[1]) + pull * r[2]

        # Never more, also at the quiet end: clean data hold x to x0_hat by the few iterations alone.
        num_iterations, tol = self.dds.settings.cg_iterations, 8 * torch.finfo(x.dtype).eps
        for _ in range(settings.sweeps):
            y = self.y, stiff * (self.split - self.dual), pull * x0_hat
            x = cgls(forward, adjoint, y, x, num_iterations, tol=tol, norms=D_z.norms).x
            raised = D_z.difference(x) + self.dual
            self.split = soft_threshold(raised, settings.lam / settings.rho)
            self.dual = raised - self.split
        return x.flatten(0, 1)

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        return self.dds.move_on(x0, denoised, noise)

    def measure(self, x: Tensor) -> Tensor:
        return self.scale * self.volumes(self.problem.operator.forward(x.flatten(0, 1)))

    def measure_adjoint(self, y: Tensor) -> Tensor:
        return self.scale * self.volumes(self.problem.operator.adjoint(y.flatten(0, 1)))

    def volumes(self, x: Tensor) -> Tensor:
        """(z · copies, y, x) as (z, copies, y, x): slices of the same copy are neighbours along z."""
        return x.reshape(-1, self.problem.num_copies, *x.shape[1:])
