"""DiffusionMBIR as published: total variation along z by ADMM, in one system with the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.config.settings import ADMMSettings, MBIRSettings
from ddip_ray.numerics.conjugate_gradient import Blocks, cgls
from ddip_ray.numerics.proximal import soft_threshold
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.data_consistency import Carried
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slice_coupling import SliceCoupling
from ddip_ray.solvers.sampling.dds import DDS

_SPLIT, _DUAL = "split", "dual"  # d and the scaled dual, (z, y, x) both, among what is carried


class ADMM:
    """argmin ½ ‖(A x − y)/‖A‖‖² + ½ ‖x − x0_hat‖²/(γ ‖A‖²) + λ ‖D_z x‖₁ from x0_hat, by ADMM on d = D_z x.

    Algorithm 2 of Chung et al. (CVPR 2023, 2211.10655), which keeps split and scaled dual from timestep to
    timestep. CG starts from x0_hat, as published. D_z couples the slabs, by one slice at each end and CG's
    scalars.
    """

    couples_slices = True

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
        """The published data consistency for one problem.

        Args:
            settings: sweeps and tolerance.
            admm: λ, for the normalised image, and ρ.
            dds: gives γ and the step to the next timestep.
            communicator: the workers of the other slabs.
            problem: measurements, in the prior's image range.
            image_scale: size of the image range; x is this many times the normalised image.
        """
        self.settings, self.admm, self.dds, self.problem = settings, admm, dds, problem
        self.threshold = image_scale * admm.lam / admm.rho  # differences below it are flattened
        self.coupling = SliceCoupling.of(problem, communicator)
        self.scale = 1 / problem.operator_norm()
        self.y = self.scale * problem.y

    def apply(self, x0_hat: Tensor, t: int, t_next: int, carried: Carried) -> tuple[Tensor, Carried]:
        """ADMM iterations from the carried split and dual; implements `DataConsistency`."""
        D_z, sqrt_rho, gamma = self.coupling, math.sqrt(self.admm.rho), self.dds.gamma(t)
        pull = 0.0 if math.isinf(gamma) else self.scale / math.sqrt(gamma)

        def forward(x: Tensor) -> Blocks:
            return self.measure(x), sqrt_rho * D_z.difference(x), pull * x

        def adjoint(r: Blocks) -> Tensor:
            return self.measure_adjoint(r[0]) + sqrt_rho * D_z.difference_adjoint(r[1]) + pull * r[2]

        # Never more, also at the clean end: clean data hold x to x0_hat by the few iterations alone.
        num_iterations, tol = self.dds.settings.cg_iterations, 8 * torch.finfo(x0_hat.dtype).eps
        zeros, carried = torch.zeros_like(x0_hat), {} if self.settings.cold else carried
        x, split, dual = x0_hat, carried.get(_SPLIT, zeros), carried.get(_DUAL, zeros)
        for k in range(self.settings.sweeps):
            y = self.y, sqrt_rho * (split - dual), pull * x0_hat
            r = tuple(target - now for target, now in zip(y, forward(x), strict=True))
            x = x + cgls(forward, adjoint, r, num_iterations, tol=tol, norms=D_z.norms).x
            difference, before = D_z.difference(x), split
            raised = difference + dual
            split = soft_threshold(raised, self.threshold)
            dual = raised - split
            if k + 1 < self.settings.sweeps and self.converged(difference, split, before):
                break
        return x, {_SPLIT: split, _DUAL: dual}

    def ddim_step(
        self, x_t: Tensor, x0: Tensor, eps_hat: Tensor, noise: Tensor, *, t: int, t_next: int
    ) -> Tensor:
        """The step of DDS; implements `DataConsistency`."""
        return self.dds.ddim_step(x_t, x0, eps_hat, noise, t=t, t_next=t_next)

    def converged(self, difference: Tensor, split: Tensor, before: Tensor) -> bool:
        """Whether primal and dual residual are within tol · λ/ρ, root mean square (Boyd et al. 2011, 3.3)."""
        D_z, largest = self.coupling, self.settings.tol * self.threshold
        primal, dual = difference - split, D_z.difference_adjoint(split - before)
        num_voxels = D_z.num_slices * difference[0].numel()
        return bool(torch.maximum(D_z.norms((primal,)), D_z.norms((dual,))) <= num_voxels * largest**2)

    def measure(self, x: Tensor) -> Tensor:
        """A x/‖A‖."""
        return self.scale * self.problem.operator.forward(x)

    def measure_adjoint(self, y: Tensor) -> Tensor:
        """Aᴴy/‖A‖."""
        return self.scale * self.problem.operator.adjoint(y)
