"""What a user can set for each method: frozen, unknown keys refused, importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SamplerSettings(Settings):
    """The reverse trajectory that DDS and D3IP share."""

    num_steps: PositiveInt = Field(50, description="sampling steps, one network call each (NFE)")
    step_power: PositiveFloat = Field(
        4.0, description="spacing of the steps: 1 even, more: finer towards the clean image"
    )
    eta: float = Field(1.0, ge=0, le=1, description="stochasticity, in the form of DDS and D3IP")
    quiet_t: int = Field(
        100,
        ge=-1,
        description="no noise is added from this timestep down; -1: noise to the end, as published",
    )
    self_ensemble: bool = Field(
        True, description="the network sees the slices flipped or transposed another way at every step"
    )
    cg_iterations: PositiveInt = Field(20, description="CG iterations of data consistency per step")
    gamma: PositiveFloat | None = Field(
        None, description="data-consistency weight; none: from the noise, or infinite for clean data"
    )
    data_trust: PositiveFloat = Field(
        6.0, description="with noise: the estimate's error variance over that of x_t, in the automatic gamma"
    )
    anchor_distance: PositiveInt = Field(
        1, description="slices between anchors of the noise (ISCS); 1: independent"
    )
    micro_batch: PositiveInt = Field(4, description="slices a network call")


class AdaptationSettings(Settings):
    """How D3IP adapts the prior along the trajectory."""

    lora_rank: PositiveInt = 16
    lora_scale: PositiveFloat = 1.0
    learning_rate: PositiveFloat = Field(1e-3, description="at its highest, after a short warm-up")
    final_rate: float = Field(0.1, gt=0, le=1, description="share of it at the last step; linear in between")
    num_adapt_steps: PositiveInt = Field(8, description="optimiser steps a timestep")
    num_adapt_slices: PositiveInt = Field(2, description="slices drawn over the volume an optimiser step")
    adapt_start_t: int = Field(12, ge=0, description="first (noisiest) timestep that adapts")
    adapt_end_t: int = Field(0, ge=0, description="last timestep that adapts")
    downsampling: PositiveInt = Field(
        2, description="the twins are so many times smaller, from so many times fewer views"
    )
    num_twins: PositiveInt = Field(4, description="of each slice, each rotated another way")
    loss_cg_iterations: int = Field(
        8, ge=0, description="CG iterations between the estimate and its loss; 0: the bare estimate"
    )


class TVSettings(Settings):
    """3D total variation, the classical method to beat."""

    lam: PositiveFloat | None = Field(
        None, description="TV weight against the normalised operator; none: from the noise"
    )
    iterations: PositiveInt = Field(150, description="ADMM iterations")
    cg_iterations: PositiveInt = Field(4, description="CG iterations of each x-update")
    edge: PositiveFloat = Field(0.01, description="λ/ρ: the step between voxels below which ADMM flattens")
    nonnegative: bool = True


class CGSettings(Settings):
    """Conjugate gradients on the normal equations from zero: least squares by early stopping."""

    iterations: PositiveInt = 12


class FBPSettings(Settings):
    filter_name: Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"] = "ram-lak"


MethodName = Literal["d3ip", "dds", "tv", "cg", "fbp"]


class RunConfig(Settings):
    """What is computed. Where it is computed (workers, GPUs) is not part of it: that changes nothing."""

    method: MethodName = "d3ip"
    prior: str = "default"
    adapter: str | None = None
    seed: int = 0
    sampler: SamplerSettings = SamplerSettings()
    adaptation: AdaptationSettings = AdaptationSettings()
    tv: TVSettings = TVSettings()
    cg: CGSettings = CGSettings()
    fbp: FBPSettings = FBPSettings()

    @property
    def uses_prior(self) -> bool:
        return self.method in ("d3ip", "dds")
