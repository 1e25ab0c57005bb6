"""DiffusionMBIR as published: total variation along z by ADMM, in one system with the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.config.settings import ADMMSettings, MBIRSettings
from ddip_ray.numerics.conjugate_gradient import Blocks, cgls
from ddip_ray.numerics.proximal import soft_threshold
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slice_coupling import SliceCoupling
from ddip_ray.solvers.sampling.dds import DDS
from ddip_ray.solvers.sampling.sampler import Denoised


class ADMM:
    """argmin ½ ‖(A x − y)/‖A‖‖² + ½ ‖x − x0_hat‖²/(γ ‖A‖²) + λ ‖D_z x‖₁ from x0_hat, by ADMM on d = D_z x.

    Algorithm 2 of the paper (Chung et al., CVPR 2023, 2211.10655), which keeps split and scaled dual from
    timestep to timestep. D_z couples the slabs, by one slice at each end and CG's scalars. λ is that of
    the normalised image, of which x is ``image_scale`` times as large.
    """

    couples_slices = True
    carried = ("split", "dual")

    def __init__(
        self,
        settings: MBIRSettings,
        admm: ADMMSettings,
        dds: DDS,
        communicator: Communicator,
        problem: SlabProblem,
        *,
        image_scale: float,
    ) -> None:
        self.settings, self.admm, self.dds, self.problem = settings, admm, dds, problem
        self.flattened = image_scale * admm.lam / admm.rho
        self.coupling = SliceCoupling.of(problem, communicator)
        self.scale = 1 / problem.operator_norm()
        self.y = self.scale * problem.y
        self.added: Tensor | None = None  # of no use: CG starts from x0_hat, as published
        self.split = self.dual = problem.nothing()

    def consistent(self, denoised: Denoised) -> Tensor:
        admm, D_z = self.admm, self.coupling
        if self.settings.cold:
            self.split = self.dual = torch.zeros_like(self.split)
        x = x0_hat = denoised.x0_hat
        gamma = self.dds.gamma(denoised.t)
        pull = 0.0 if math.isinf(gamma) else self.scale / math.sqrt(gamma)
        sqrt_rho = math.sqrt(admm.rho)

        def forward(x: Tensor) -> Blocks:
            return self.measure(x), sqrt_rho * D_z.difference(x), pull * x

        def adjoint(r: Blocks) -> Tensor:
            return self.measure_adjoint(r[0]) + sqrt_rho * D_z.difference_adjoint(r[1]) + pull * r[2]

        # Never more, also at the quiet end: clean data hold x to x0_hat by the few iterations alone.
        num_iterations, tol = self.dds.settings.cg_iterations, 8 * torch.finfo(x.dtype).eps
        for k in range(self.settings.sweeps):
            y = self.y, sqrt_rho * (self.split - self.dual), pull * x0_hat
            r = tuple(target - now for target, now in zip(y, forward(x), strict=True))
            x = x + cgls(forward, adjoint, r, num_iterations, tol=tol, norms=D_z.norms).x
            difference, before = D_z.difference(x), self.split
            raised = difference + self.dual
            self.split = soft_threshold(raised, self.flattened)
            self.dual = raised - self.split
            if k + 1 < self.settings.sweeps and self.converged(difference, before):
                break
        return x

    def converged(self, difference: Tensor, before: Tensor) -> bool:
        """Whether primal and dual residual are within tol · λ/ρ, root mean square (Boyd et al. 2011, 3.3)."""
        D_z, most = self.coupling, self.settings.tol * self.flattened
        apart, moved = difference - self.split, D_z.difference_adjoint(self.split - before)
        num_voxels = D_z.num_slices * difference[0].numel()
        return bool(torch.maximum(D_z.norms((apart,)), D_z.norms((moved,))) <= num_voxels * most**2)

    def move_on(self, x0: Tensor, denoised: Denoised, noise: Tensor) -> Tensor:
        return self.dds.move_on(x0, denoised, noise)

    def measure(self, x: Tensor) -> Tensor:
        return self.scale * self.problem.operator.forward(x)

    def measure_adjoint(self, y: Tensor) -> Tensor:
        return self.scale * self.problem.operator.adjoint(y)
