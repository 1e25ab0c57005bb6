"""The interface of priors, and a diffusion network read as a denoiser by Tweedie's formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddip_ray.numerics.threads import one_thread
from ddip_ray.prior.residual_unet import ResidualUNet
from ddip_ray.prior.schedule import NoiseSchedule

Prediction = Literal["epsilon", "v_prediction", "sample", "ve_score"]
Network = Callable[[Tensor, Tensor], Tensor]  # (z, channel, y, x) and timesteps (z,) -> (z, channel, y, x)


class Denoiser(Protocol):
    """Everything that a method with a fixed prior needs: a Gaussian denoiser for every noise level.

    Attributes:
        schedule: ᾱ at each timestep.
        image_range: values that 0 and 1 of the acquisition's normalised images have here.
    """

    @property
    def schedule(self) -> NoiseSchedule:
        """ᾱ at each timestep."""
        ...

    @property
    def image_range(self) -> tuple[float, float]:
        """Values that 0 and 1 of the acquisition's normalised images have here."""
        ...

    def denoise(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """(x0_hat, eps_hat) of noisy slices at timestep ``t``, with x_t = √ᾱ x0_hat + √(1−ᾱ) eps_hat.

        All are (z, y, x). Slices are independent, and any number of them is accepted.
        """
        ...


class Prior(Denoiser, Protocol):
    """A denoiser whose network can be exchanged; `as_prior` makes one of any `Denoiser`.

    Attributes:
        name: name for messages.
        digest: what identifies the weights.
        micro_batch: slices in each call of the network.
        num_channels: 2 where real and imaginary part are denoised together, else 1.
    """

    name: str
    digest: str
    micro_batch: int
    num_channels: int

    def denoise(self, x_t: Tensor, t: int, network: Network | None = None) -> tuple[Tensor, Tensor]:
        """`Denoiser.denoise`, by another ``network`` if given."""
        ...

    def network_forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The plain network: (z, channel, y, x) and (z,) -> (z, channel, y, x)."""
        ...


def as_prior(denoiser: Denoiser) -> Prior:
    """``denoiser`` itself if it is a `Prior`, else a prior that calls it."""
    if hasattr(denoiser, "network_forward"):
        return cast(Prior, denoiser)
    return _DenoiserPrior(denoiser)


class _DenoiserPrior:
    """A `Prior` of which the network is a denoiser with two channels out: x0_hat and eps_hat.

    A name, digest, micro_batch or num_channels that the denoiser has is taken over.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.schedule, self.image_range = denoiser.schedule, denoiser.image_range
        self.name: str = getattr(denoiser, "name", type(denoiser).__name__)
        self.digest: str = getattr(denoiser, "digest", "")
        self.micro_batch: int = getattr(denoiser, "micro_batch", 1)
        self.num_channels: int = getattr(denoiser, "num_channels", 1)

    def denoise(self, x_t: Tensor, t: int, network: Network | None = None) -> tuple[Tensor, Tensor]:
        """Implements `Prior`."""
        out = (network or self.network_forward)(x_t[:, None], torch.full((len(x_t),), t))
        return out[:, 0], out[:, 1]

    def network_forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Implements `Prior`."""
        return torch.stack(self.denoiser.denoise(x[:, 0], int(t[0])), dim=1)


def channels_last(network: nn.Module) -> nn.Module:
    """The memory order in which convolutions run fastest on a CPU and on a GPU's tensor cores."""
    converted: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return converted


class DiffusionPrior:
    """A noise-conditional network read as a Tweedie denoiser.

    Images are in the range the network was trained on (``image_range``, usually −1…1): an image ``u`` in
    0…1 is ``low + (high − low) u`` here. A network of one channel is for real images, and for the real and
    the imaginary part of complex ones; one of two channels for both parts together. Every other difference
    between networks (what they predict, which sizes they take) ends in this class.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        prediction: Prediction,
        *,
        image_range: tuple[float, float] = (-1.0, 1.0),
        name: str = "",
        digest: str = "",
        micro_batch: int = 1,
        num_channels: int = 1,
        assumed: str = "",
    ) -> None:
        self.num_channels, self.assumed = num_channels, assumed
        self.network = network.eval().requires_grad_(False)
        self.schedule = schedule
        self.prediction = prediction
        self.image_range = image_range
        self.name = name
        self.digest = digest
        self.micro_batch = micro_batch  # slices a call
        self.size_multiple = _size_multiple(network)

    def denoise(
        self, x_t: Tensor, t: int, network: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tweedie: the posterior mean of the clean image and the matching noise estimate.

        Args:
            x_t: (z, y, x) noisy slices, any size: padded to what the network takes, and cropped back.
                Of complex ones the real and the imaginary part are channels, or slices of their own where
                the network has one channel.
            t: timestep, 0 … num_train_timesteps − 1.
            network: called instead of the plain network, for an adapted one.

        Returns:
            (x0_hat, eps_hat), both (z, y, x), with x_t = √ᾱ x0_hat + √(1−ᾱ) eps_hat.
        """
        parts = torch.view_as_real(x_t).movedim(-1, 1) if x_t.is_complex() else x_t[:, None]
        x0_hat, eps_hat = self._denoise(parts.reshape(-1, self.num_channels, *x_t.shape[-2:]), t, network)
        if not x_t.is_complex():
            return x0_hat[:, 0], eps_hat[:, 0]
        return _joined(x0_hat), _joined(eps_hat)

    def _denoise(
        self, x_t: Tensor, t: int, network: Callable[[Tensor, Tensor], Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """`denoise` of ``x_t: (z, channel, y, x)``."""
        alpha_bar = self.schedule.at(t)
        signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        if self.prediction == "ve_score":
            # The same state in the VE-SDE's scale, x0 + σ z: the score of that is −z/σ.
            sigma = noise / signal
            eps_hat = -sigma * self._predict(x_t / signal, sigma, network or self.network_forward)
            return (x_t - noise * eps_hat) / signal, eps_hat
        out = self._predict(x_t, t, network or self.network_forward)
        if self.prediction == "v_prediction":
            return signal * x_t - noise * out, signal * out + noise * x_t
        if self.prediction == "sample":
            return out, (x_t - signal * out) / noise
        return (x_t - noise * out) / signal, out

    def network_forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(z, channel, y, x), (z,) -> (z, channel, y, x)."""
        out: Tensor = self.network(x, t).sample
        return out

    def _predict(self, x_t: Tensor, condition: float, network: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The network's output for ``x_t: (z, channel, y, x)`` at timestep (an int) or noise level."""
        ny, nx = x_t.shape[-2:]
        m = self.size_multiple
        top, left = (-ny % m) // 2, (-nx % m) // 2
        padding = (left, -nx % m - left, top, -ny % m - top)
        x = x_t
        if any(padding):
            # Reflection keeps the noise statistics at the border; it needs more rows than it mirrors.
            mode = "reflect" if min(ny, nx) > m else "replicate"
            x = functional.pad(x, padding, mode=mode)
        x = x.contiguous(memory_format=torch.channels_last)
        with one_thread():
            out = network(x, torch.full((len(x),), condition, device=x.device))
        return out[..., top : top + ny, left : left + nx]


def _size_multiple(network: nn.Module) -> int:
    """Heights and widths must be multiples of this."""
    if isinstance(network, ResidualUNet):
        return network.size_multiple
    config = getattr(network, "config", None)
    return 2 ** (len(config["block_out_channels"]) - 1) if config is not None else 1


def _joined(parts: Tensor) -> Tensor:
    """Real and imaginary parts, (z, 2, y, x), or in turn, (2 z, 1, y, x), as complex slices (z, y, x)."""
    real, imaginary = parts.reshape(-1, 2, *parts.shape[-2:]).unbind(1)
    return torch.complex(real, imaginary)
