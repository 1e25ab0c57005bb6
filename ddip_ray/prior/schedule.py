"""The variance-preserving noise schedule as data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """Cumulative alphas of a VP diffusion (Ho et al., DDPM, 2006.11239).

    ``alpha_bar`` is a float64 tensor of shape (num_train_timesteps,), decreasing.
    """

    alpha_bar: Tensor

    @classmethod
    def linear(
        cls, num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
    ) -> NoiseSchedule:
        """Betas linear in t, as in DDPM and in the papers this package implements."""
        beta = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
        return cls(torch.cumprod(1 - beta, 0))

    @property
    def num_train_timesteps(self) -> int:
        """Number of timesteps the network was trained with."""
        return len(self.alpha_bar)

    def at(self, t: int) -> float:
        """alpha_bar at timestep ``t``; t = -1 is the clean image."""
        return 1.0 if t < 0 else float(self.alpha_bar[t])

    def timesteps(self, num_steps: int, power: float = 1.0, first: int | None = None) -> list[int]:
        """``num_steps`` timesteps from ``first`` (none: pure noise, the last) to the cleanest (0).

        ``power`` 1 spaces them evenly; 2 quadratically, with more steps where little noise is left
        and details are decided; then timesteps near 0 repeat. The step after the last one is -1 (clean).

        Raises:
            ValueError: more steps than training timesteps, or none; ``first`` is not one of them.
        """
        last = self.num_train_timesteps - 1
        if not 1 <= num_steps <= last + 1:
            raise ValueError(f"num_steps must be between 1 and {last + 1}, got {num_steps}")
        if first is not None:
            if not 0 <= first <= last:
                raise ValueError(f"first must be between 0 and {last}, got {first}")
            last = first
        if num_steps == 1:
            return [last]
        return [round(last * ((num_steps - 1 - i) / (num_steps - 1)) ** power) for i in range(num_steps)]
