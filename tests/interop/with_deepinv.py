"""Run by test_deepinv.py in a process of its own: deepinv's physics in, ours out, its denoiser as a prior."""

from __future__ import annotations

import deepinv
import torch

import ddip_ray as dr
from ddip_ray.interop.deepinv import DeepinvDenoiser, DeepinvOperator, as_physics
from ddip_ray.operators.ct.parallel_beam import ParallelBeam

SHAPE = (24, 24)


def phantom() -> torch.Tensor:
    """Two slices of a disc with a hole, (z, y, x) on 0…1."""
    c = torch.linspace(-1, 1, SHAPE[0])
    disc = (c[:, None] ** 2 + 1.3 * c**2 < 0.7).float() - 0.5 * (
        (c[:, None] - 0.2) ** 2 + c**2 < 0.05
    ).float()
    return 0.8 * disc.expand(2, -1, -1).contiguous()


def physics_in() -> None:
    """A deepinv tomography and MRI as operators: adjoint, and one reconstruction each."""
    x = phantom()
    A = DeepinvOperator(
        deepinv.physics.Blur(deepinv.physics.blur.gaussian_blur(1.0), padding="circular"), SHAPE
    )
    require_adjoint(A)
    found = dr.solve(A, A(x), method="cg", cg={"iterations": 60})
    assert dr.psnr(found, x) > dr.psnr(A(x)[:, 0], x) + 3

    mask = (torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    F = DeepinvOperator(deepinv.physics.MRI(mask=mask, img_size=SHAPE), SHAPE, is_complex=True)
    require_adjoint(F)
    y = F(x.to(torch.complex64))
    error = (F(dr.solve(F, y, method="cg")) - y).abs().max()
    assert float(error) < 1e-3, error


def require_adjoint(A: dr.operators.LinearOperator) -> None:
    """⟨A x, y⟩ = ⟨x, Aᴴ y⟩, to float precision."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, *A.image_shape, dtype=A.dtype, generator=generator)
    y = torch.randn(2, *A.measurement_shape, dtype=A.dtype, generator=generator)
    left, right = torch.vdot(y.flatten(), A(x).flatten()), torch.vdot(A.adjoint(y).flatten(), x.flatten())
    assert abs(left - right) <= 1e-5 * abs(left), (left, right)


def physics_out() -> None:
    """Our projector as a deepinv physics: its own adjointness test, and its own pseudo-inverse."""
    A = ParallelBeam.equispaced(SHAPE, num_views=40)
    physics, x = as_physics(A), phantom()[:, None]
    assert abs(float(physics.adjointness_test(torch.rand_like(x)))) < 1e-2
    y = physics.A(x)
    assert torch.equal(y, A(x[:, 0]))
    found = physics.A_dagger(y)
    assert dr.psnr(found[:, 0], x[:, 0]) > 25


def denoiser_in() -> None:
    """A deepinv denoiser as the prior of DDS: better than least squares from few noisy views."""
    A, x = ParallelBeam.equispaced(SHAPE, num_views=12), phantom()
    noise = torch.randn(2, *A.measurement_shape, generator=torch.Generator().manual_seed(2))
    y, std = A(x) + 0.3 * noise, 0.3

    class TV:
        """deepinv's total-variation denoiser; its weight is the noise level."""

        model = deepinv.models.TVDenoiser(n_it_max=100)

        def __call__(self, u: torch.Tensor, sigma: float) -> torch.Tensor:
            return self.model(u, 0.5 * sigma)

    prior = DeepinvDenoiser(TV())
    found = dr.solve(A, y, prior, method="dds", noise_std=std, sampler={"num_steps": 20})
    least_squares = dr.solve(A, y, method="cg")
    assert dr.psnr(found, x) > dr.psnr(least_squares, x) + 1, (dr.psnr(found, x), dr.psnr(least_squares, x))


if __name__ == "__main__":
    for check in (physics_in, physics_out, denoiser_in):
        check()
        print(check.__name__, "ok")
