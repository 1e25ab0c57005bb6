"""deepinv in and out: its physics and denoisers as ours, our operators as its physics.

deepinv (https://deepinv.github.io) is needed for `as_physics` only: ``pip install 'ddip-ray[deepinv]'``.
Its images are ``(batch, channel, y, x)``. A batch is our stack of slices; real images have one channel,
complex ones two, real and imaginary part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddip_ray.operators.base import LinearOperator
from ddip_ray.prior.schedule import NoiseSchedule


class DeepinvOperator(LinearOperator):
    """A ``deepinv.physics.LinearPhysics`` as an operator, for `ddip_ray.solve` and all else.

    Args:
        physics: the physics; ``A`` and ``A_adjoint`` are called, its noise model is not.
        image_shape: (y, x) of a slice.
        is_complex: whether images are complex, as two channels there.
        device: where the physics computes.
    """

    def __init__(
        self, physics: Any, image_shape: tuple[int, int], *, is_complex: bool = False, device: str = "cpu"
    ) -> None:
        self.physics, self.is_complex = physics, is_complex
        with torch.no_grad():
            measured = physics.A(torch.zeros(1, 2 if is_complex else 1, *image_shape, device=device))
        dtype = torch.complex64 if is_complex else torch.float32
        self.channels_first = tuple(measured.shape[1:])
        shape = (*self.channels_first[1:],) if is_complex else self.channels_first
        super().__init__(image_shape, shape, dtype=dtype, device=device)

    def _forward(self, x: Tensor) -> Tensor:
        return self._from_channels(self.physics.A(self._to_channels(x[:, None])))

    def _adjoint(self, y: Tensor) -> Tensor:
        y = y[:, None] if self.is_complex else y
        return self._from_channels(self.physics.A_adjoint(self._to_channels(y)), 1)

    def _to_channels(self, x: Tensor) -> Tensor:
        """(z, 1, …) complex to (z, 2, …) real; real tensors as they are."""
        return torch.view_as_real(x[:, 0]).movedim(-1, 1).contiguous() if self.is_complex else x

    def _from_channels(self, x: Tensor, squeeze: int = 0) -> Tensor:
        """(z, 2, …) real to (z, …) complex; of real tensors the channel is dropped if ``squeeze``."""
        if self.is_complex:
            return torch.view_as_complex(x.movedim(1, -1).contiguous())
        return x[:, 0] if squeeze else x


def as_physics(A: LinearOperator) -> Any:
    """``A`` as a ``deepinv.physics.LinearPhysics`` of images (batch, 1, y, x); real operators only.

    Raises:
        ValueError: an operator of complex images.
    """
    from deepinv.physics import LinearPhysics

    if A.dtype.is_complex:
        raise ValueError(f"as_physics: {A.name} has complex images, expected real ones")
    return LinearPhysics(
        A=lambda x, **_: A.forward(x[:, 0]),
        A_adjoint=lambda y, **_: A.adjoint(y)[:, None],
        img_size=(1, *A.image_shape),
        device=str(A.device),
    )


class DeepinvDenoiser:
    """A deepinv denoiser as a prior for the methods that do not adapt it: DDS, DDNM, DiffPIR, DiffusionMBIR.

    Args:
        model: called as ``model(x, sigma)`` on images (batch, 1, y, x) on 0…1 with noise of standard
            deviation sigma.
        schedule: noise schedule of the trajectory; None is DDPM's linear one.
    """

    image_range = (0.0, 1.0)

    def __init__(self, model: Any, schedule: NoiseSchedule | None = None) -> None:
        self.model, self.schedule = model, schedule or NoiseSchedule.linear()

    def denoise(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The denoised images and the noise estimate, both (z, y, x), of ``x_t`` at timestep ``t``."""
        alpha_bar = self.schedule.at(t)
        signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        x0_hat = self.model((x_t / signal)[:, None], noise / signal)[:, 0]
        return x0_hat, (x_t - signal * x0_hat) / noise
