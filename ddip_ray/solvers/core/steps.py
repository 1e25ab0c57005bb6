"""The parts of a reverse diffusion step, each one function, used wherever the step occurs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.numerics.conjugate_gradient import Blocks, cgls, squared_norms
from ddip_ray.numerics.inner_product import slice_dot_real, slice_scale, squared_modulus
from ddip_ray.operators.base import LinearOperator
from ddip_ray.prior.denoiser import Network, Prior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.problem import SlabProblem

NUM_ORIENTATIONS = 8
CLEAN = -1  # the timestep after the last one: ᾱ is 1 there


def spaced_timesteps(
    prior: Prior, section: str, num_steps: int, power: float = 1.0, start_t: int | None = None
) -> list[int]:
    """The timesteps of a trajectory, from the noisiest to the cleanest (`NoiseSchedule.timesteps`).

    Args:
        prior: the prior whose training timesteps they are.
        section: section of the configuration that asks for them, for messages.
        num_steps: number of timesteps.
        power: 1 spaces them evenly; larger powers put more of them near the clean image.
        start_t: first timestep; None is the last training timestep, pure noise.

    Raises:
        InputError: the prior was trained with fewer timesteps.
    """
    trained = prior.schedule.num_train_timesteps
    asked = [("num_steps", num_steps, trained), ("start_t", start_t or 0, trained - 1)]
    for field, found, largest in asked:
        if found > largest:
            raise InputError(
                f"{section}.{field}: found {found}, the prior {prior.name} has {largest} at most"
            )
    return prior.schedule.timesteps(num_steps, power, start_t)


def reoriented(network: Network, k: int) -> Network:
    """``network`` applied to its images flipped or transposed in the ``k``-th of the square's 8 ways.

    Another way at each step averages out what the network prefers by orientation, at no cost: the periodical
    geometric self-ensemble of DPIR (Zhang et al., Plug-and-Play Image Restoration with Deep Denoiser Prior,
    TPAMI 2022, 2008.13751), equivariance by chance of Terris et al. (CVPR 2024, 2312.01831).
    """
    flipped = [axis for bit, axis in ((1, -1), (2, -2)) if k & bit]

    def turn(x: Tensor) -> Tensor:
        return (x.transpose(-1, -2) if k & 4 else x).flip(flipped)

    def back(x: Tensor) -> Tensor:
        x = x.flip(flipped)
        return x.transpose(-1, -2) if k & 4 else x

    def call(x: Tensor, t: Tensor) -> Tensor:
        return back(network(turn(x).contiguous(memory_format=torch.channels_last), t))

    return call


def correction(
    operator: LinearOperator,
    y: Tensor,
    x0_hat: Tensor,
    gamma: float,
    num_iterations: int,
    *,
    guess: Tensor | None = None,
) -> Tensor:
    """The change d that data consistency makes: argmin γ/2 ‖A (x0_hat + d) − y‖² + ½ ‖d‖², by CG.

    Differentiable in x0_hat. DDS (2303.05754), eq. 16 and algorithm 2: with γ = ∞ a few CG iterations stay in
    the Krylov subspace around the denoised image.

    Args:
        operator: A.
        y: measurements, (z, *measurement).
        x0_hat: denoised slices, (z, y, x).
        gamma: weight of the data; infinity drops the term ½ ‖d‖².
        num_iterations: maximum number of CG iterations.
        guess: the correction of a similar image, (z, y, x). CG starts from the multiple of it that explains
            most of the misfit (Fischer 1998, doi:10.1016/S0045-7825(98)00012-7, for one vector).
            None: from zero.

    Returns:
        d, (z, y, x).
    """
    A, r, tol = operator, y - operator.forward(x0_hat), 100 * torch.finfo(x0_hat.dtype).eps
    pull = 1 / math.sqrt(gamma)  # 0 for γ = ∞: no block of zeros is carried along then

    def forward(x: Tensor) -> Blocks:
        return (A.forward(x), pull * x) if pull > 0 else (A.forward(x),)

    def adjoint(r: Blocks) -> Tensor:
        return A.adjoint(r[0]) + pull * r[1] if pull > 0 else A.adjoint(r[0])

    blocks: Blocks = (r, torch.zeros_like(x0_hat)) if pull > 0 else (r,)
    if guess is None:
        return cgls(forward, adjoint, blocks, num_iterations, tol=tol).x
    start, explained = along(guess, forward(guess), blocks)
    blocks = tuple(r - part for r, part in zip(blocks, explained, strict=True))
    return start + cgls(forward, adjoint, blocks, num_iterations, tol=tol).x


def along(x: Tensor, ax: Blocks, r: Blocks) -> tuple[Tensor, Blocks]:
    """The multiples c x and c A x, with the c of each slice that minimises Σ ‖r_k − c A_k x‖²."""
    squared = squared_norms(ax)
    product = sum(slice_dot_real(a, b) for a, b in zip(ax, r, strict=True))
    c = torch.where(squared > 0, product / torch.where(squared > 0, squared, 1.0), 0.0)
    return slice_scale(c, x), tuple(slice_scale(c, block) for block in ax)


def pseudo_inverse(
    operator: LinearOperator, y: Tensor, num_iterations: int, guess: Tensor | None = None
) -> Tensor:
    """A†y by ``num_iterations`` of CG from zero or ``guess``: (z, *measurement) to (z, y, x)."""
    zeros = y.new_zeros(len(y), *operator.image_shape)
    return correction(operator, y, zeros, math.inf, num_iterations, guess=guess)


def ddim_step(x0: Tensor, eps_hat: Tensor, noise: Tensor, alpha_bar_next: float, eta: float) -> Tensor:
    """x_{t−1} = √ᾱ x0 + √(1−ᾱ) (η z + √(1−η²) ε), with the η of DDS and D3IP, which is not DDIM's.

    Args:
        x0: clean slices, (z, y, x).
        eps_hat: ε, the noise estimate, (z, y, x).
        noise: z, new unit normal noise, (z, y, x).
        alpha_bar_next: ᾱ at the next timestep.
        eta: η, the share of new noise, from 0 (none) to 1 (all).
    """
    # Plain products and sums: a fused multiply-add rounds differently in vector tails.
    direction = eta * noise + math.sqrt(1 - eta * eta) * eps_hat
    return noise_free_step(x0, alpha_bar_next) + math.sqrt(1 - alpha_bar_next) * direction


def noise_free_step(x0: Tensor, alpha_bar_next: float) -> Tensor:
    """x_{t−1} = √ᾱ x0: no noise, so the next denoising takes the estimate's own error for noise.

    Then the steps are those of plug-and-play half-quadratic splitting with falling noise levels
    (DPIR: Zhang et al., 2008.13751), whose fixed point is a regularised solution, not a sample.
    """
    return math.sqrt(alpha_bar_next) * x0


def relative_residual(problem: SlabProblem, x: Tensor, communicator: Communicator) -> float:
    """‖A x − y‖ / ‖y‖ over the whole volume."""
    with torch.no_grad():
        misfit = squared_modulus(problem.operator.forward(x) - problem.y).double().sum()
        total = squared_modulus(problem.y).double().sum()
    sums = communicator.all_reduce(torch.stack([misfit, total]))
    return math.sqrt(float(sums[0]) / max(float(sums[1]), torch.finfo(torch.float64).tiny))
