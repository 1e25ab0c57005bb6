"""A Gaussian prior, of which everything is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from ddip_ray.operators.base import LinearOperator
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab

SIZE = 8


class GaussianPrior:
    """N(mean, covariance) over images of SIZE x SIZE, read as a Tweedie denoiser like `DiffusionPrior`."""

    image_range, schedule, digest, micro_batch = (0.0, 1.0), NoiseSchedule.linear(), "", 100
    num_channels = 1

    def __init__(self) -> None:
        c = torch.arange(SIZE, dtype=torch.float64)
        row, column = (g.flatten() for g in torch.meshgrid(c, c, indexing="ij"))
        distance = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
        self.covariance = 0.25 * torch.exp(-distance / 8) + 0.01 * torch.eye(SIZE**2, dtype=torch.float64)
        self.mean = 0.5 + 0.03 * (row - column)
        self.variances, self.axes = torch.linalg.eigh(self.covariance)

    def denoise(self, x_t: Tensor, t: int, network: object = None) -> tuple[Tensor, Tensor]:
        alpha_bar = self.schedule.at(t)
        shrink = alpha_bar**0.5 * self.variances / (alpha_bar * self.variances + 1 - alpha_bar)
        gain = ((self.axes * shrink) @ self.axes.T).to(x_t.dtype)
        mean = self.mean.to(x_t.dtype)
        x0_hat = (mean + (x_t.flatten(1) - alpha_bar**0.5 * mean) @ gain).reshape(x_t.shape)
        return x0_hat, (x_t - alpha_bar**0.5 * x0_hat) / (1 - alpha_bar) ** 0.5

    def network_forward(self, x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("everything is known, no network is asked")

    def posterior(self, A: Tensor, y: Tensor, noise_std: float) -> tuple[Tensor, Tensor]:
        """Mean (n,) and covariance (n, n) of x given y = A x + n."""
        system = A @ self.covariance @ A.T + noise_std**2 * torch.eye(len(A), dtype=A.dtype)
        gain = torch.linalg.solve(system, A @ self.covariance).T
        return self.mean + gain @ (y - A @ self.mean), self.covariance - gain @ A @ self.covariance


class MatrixOperator(LinearOperator):
    """A matrix (m, n) as an operator on images of SIZE x SIZE."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__((SIZE, SIZE), (len(matrix),))
        self.matrix = matrix.float()

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix).reshape(-1, SIZE, SIZE)


def scan(prior: GaussianPrior, num_slices: int, noise_std: float) -> tuple[SlabProblem, Tensor, Tensor]:
    """The same few measurements of one image for every slice; the posterior's mean and covariance."""
    generator = torch.Generator().manual_seed(0)
    n, m = SIZE**2, SIZE**2 // 3
    A = torch.randn(m, n, generator=generator, dtype=torch.float64) / n**0.5
    # By the symmetric root of the covariance: eigenvectors are another machine's to choose.
    root = (prior.axes * prior.variances.sqrt()) @ prior.axes.T
    x = prior.mean + root @ torch.randn(n, generator=generator, dtype=A.dtype)
    y = A @ x + noise_std * torch.randn(m, generator=generator, dtype=A.dtype)
    slab = Slab(0, num_slices)
    problem = SlabProblem(MatrixOperator(A), y.float().expand(num_slices, m), slab, num_slices, noise_std)
    return problem, *prior.posterior(A, y, noise_std)
