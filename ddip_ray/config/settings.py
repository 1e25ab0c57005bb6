"""What a user can set for each method: frozen, unknown keys refused, importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


StartName = Literal["noise", "same_noise", "pseudo_inverse", "reconstruction"]


class SamplerSettings(Settings):
    """The reverse trajectory that DDS, DDNM, DiffPIR, DiffusionMBIR and the adapting methods share."""

    num_steps: PositiveInt = Field(50, description="sampling steps, one network call each (NFE)")
    step_power: PositiveFloat = Field(
        4.0, description="spacing of the steps: 1 even, more: finer towards the clean image"
    )
    start: StartName = Field(
        "noise",
        description="x_T: noise; the same on every slice; noise on A†y, or on the result start_from",
    )
    start_t: int | None = Field(
        None, ge=0, description="first timestep; none: pure noise. For the last two starts: a few hundred"
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
    nonnegative: bool = Field(
        True,
        description="real images are cut off at the range's lower end; of clean data kept above it",
    )
    cg_iterations: PositiveInt = Field(
        20, description="CG iterations of data consistency, at most, in a step that adds noise"
    )
    quiet_cg_iterations: PositiveInt = Field(
        400, description="in a step that adds none (not by ADMM); clean data, limited angles need many"
    )
    cg_warm_start: bool = Field(True, description="CG starts from what it added to the last denoised image")
    gamma: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | Literal["infinite"] | None = Field(
        None, description="data-consistency weight; none: from the noise, and infinite for clean data"
    )
    data_trust: PositiveFloat = Field(
        6.0, description="with noise: the estimate's error variance over that of x_t, in the automatic gamma"
    )
    anchor_distance: PositiveInt = Field(
        1, description="slices between anchors of the noise (ISCS); 1: independent"
    )

    def num_cg_iterations(self, t_next: int) -> int:
        """For the step to timestep ``t_next``."""
        return self.quiet_cg_iterations if 0 <= self.quiet_t >= t_next else self.cg_iterations

    @model_validator(mode="after")
    def _pure_noise_starts_at_the_top(self) -> SamplerSettings:
        if self.start in ("noise", "same_noise") and self.start_t is not None:
            raise ValueError(f"start_t {self.start_t} goes with start: pseudo_inverse or reconstruction")
        if self.start == "reconstruction" and self.start_t is None:
            raise ValueError("start: reconstruction needs a start_t, or noise would be all there is")
        return self


class AdaptationSettings(Settings):
    """How D3IP, DDIP and SCD adapt the prior along the trajectory."""

    judge: Literal["twins", "measurements"] = Field(
        "twins",
        description="what judges the adapter: rescans of the first result or, as published, the data",
    )
    lora_rank: PositiveInt = 16
    lora_scale: PositiveFloat = 1.0
    lora_init_std: PositiveFloat | None = Field(
        None, description="of the down factors at the start; none: 1/√ of how many inputs each sums up"
    )
    learning_rate: PositiveFloat = Field(1e-3, description="at its highest, after a short warm-up")
    final_rate: float = Field(0.1, gt=0, le=1, description="share of it at the last step; linear in between")
    num_adapt_steps: NonNegativeInt = Field(
        8, description="optimiser (or Reptile's outer) steps a timestep; 0: a given adapter, as it is"
    )
    num_adapt_slices: PositiveInt = Field(
        8, description="slices drawn over the volume an optimiser step; of fewer slices, more twins of each"
    )
    adapt_start_t: int = Field(12, ge=0, description="first (noisiest) timestep that adapts")
    adapt_end_t: int = Field(0, ge=0, description="last timestep that adapts")
    adapt_every: PositiveInt = Field(1, description="2: at every other of these timesteps; 1: at all")
    downsampling: PositiveInt = Field(
        2, description="the twins are so many times smaller, from so many times fewer views"
    )
    num_twins: PositiveInt = Field(4, description="of each slice at most, each rotated another way")
    enough_twins: PositiveInt = Field(
        96,
        description="of the slices that teach one adapter: of many slices fewer each will do, at least one",
    )
    loss_cg_iterations: NonNegativeInt = Field(
        20, description="CG iterations of data consistency before the loss; of twins, after those before"
    )
    policy: Literal["fixed", "auto"] = Field(
        "fixed",
        description="auto: measurements that are held out decide how strongly to adapt, or not at all",
    )

    def adapts_at(self, t: int) -> bool:
        return self.adapt_end_t <= t <= self.adapt_start_t


class NoiseSettings(Settings):
    """How far the methods with a prior trust measured data."""

    level: Literal["auto", "given"] = Field(
        "auto",
        description="auto: where the store's noise is an estimate, held-out measurements choose a multiple",
    )
    factors: tuple[PositiveFloat, ...] = Field((1.0, 2.0, 4.0), min_length=1, description="multiples to try")
    num_slices: PositiveInt = Field(4, description="slices to try them on, about")
    held_out_share: float = Field(0.1, gt=0, lt=1, description="of the views, at least one")


class ValidationSettings(Settings):
    """How measurements decide on the adaptation (policy: auto)."""

    num_slices: PositiveInt = Field(16, description="slices reconstructed without some of their views, about")
    held_out_share: float = Field(0.05, gt=0, lt=1, description="of the views, at least one")
    strengths: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(
        (0.0, 0.5, 1.0, 1.5), min_length=1, description="multiples of the adapter to try"
    )
    patience: PositiveInt = Field(
        10, description="late steps after which adapting is given up, if nothing has been clearly gained yet"
    )

    def spacing(self, num_slices: int, *, couples_slices: bool) -> int:
        """Every so many slices are reconstructed without some of their views; neighbours need all."""
        return 1 if couples_slices else max(1, num_slices // self.num_slices)


class MetaSettings(Settings):
    """D3IP (meta): Reptile over slices, and a short refinement on each."""

    inner_steps: PositiveInt = Field(4, description="Adam steps on each drawn slice in an outer step")
    outer_rate: float = Field(1.0, gt=0, le=1, description="share of the way that the adapter goes")
    outer_decay: bool = Field(True, description="whether that share falls linearly to zero")
    refine_steps: NonNegativeInt = Field(2, description="Adam steps on each slice before its own step")


class SCDSettings(Settings):
    """Adaptation by the measurements."""

    tv_weight: NonNegativeFloat = Field(
        0.0, description="of the estimate's anisotropic total variation against the normalised operator"
    )


class ADMMSettings(Settings):
    """DiffusionMBIR's own total variation along z, in one system with the data."""

    lam: PositiveFloat = Field(1.5e-6, description="TV weight against the normalised operator")
    rho: PositiveFloat = Field(3e-4, description="ADMM penalty; λ/ρ is the step between slices it flattens")


class MBIRSettings(Settings):
    """Total variation along z in the data consistency: DiffusionMBIR and D3IP (mbir)."""

    trajectory: Literal["ddim", "predictor_corrector"] = Field(
        "ddim", description="of DiffusionMBIR: that of DDS, or the published VE-SDE sampler"
    )
    weight: PositiveFloat = Field(
        0.5, description="of the TV against ½ ‖x − x0_hat‖², times the noise in x_t over its signal"
    )
    admm: ADMMSettings | None = Field(None, description="given: ADMM as published, instead of weight")
    sweeps: PositiveInt = Field(1, description="sweeps a timestep, at most")
    tol: NonNegativeFloat = Field(
        0.02, description="they end where x is so near to the minimum, against weight (ADMM: against λ/ρ)"
    )
    cold: bool = Field(False, description="begin anew at each timestep (slow: with some hundred sweeps)")


class DiffPIRSettings(Settings):
    lam: PositiveFloat = Field(1.0, description="weight of the prior, the paper's λ")


class DPSSettings(Settings):
    num_steps: PositiveInt = Field(1000, description="ancestral steps, evenly spaced")
    scale: PositiveFloat = Field(1.0, description="step along the gradient of the normalised misfit")


class PredictorCorrectorSettings(Settings):
    """The VE-SDE sampler of Score-MRI and the published DiffusionMBIR."""

    num_steps: PositiveInt = Field(500, description="predictor steps")
    corrector_steps: NonNegativeInt = Field(1, description="Langevin steps after each")
    snr: PositiveFloat = Field(0.16, description="size of a Langevin step against the noise's")


class TVSettings(Settings):
    """3D total variation, the classical method to beat."""

    lam: PositiveFloat | None = Field(
        None, description="TV weight against the normalised operator; none: from the noise"
    )
    iterations: PositiveInt = Field(1000, description="ADMM iterations, at most")
    tol: NonNegativeFloat = Field(1e-3, description="ADMM ends where both residuals are so small, relatively")
    cg_iterations: PositiveInt = Field(10, description="CG iterations of each x-update")
    edge: PositiveFloat = Field(0.01, description="λ/ρ: the step between voxels below which ADMM flattens")
    nonnegative: bool = True


class CGSettings(Settings):
    """Conjugate gradients from zero: least squares by early stopping."""

    iterations: PositiveInt = 12


class FBPSettings(Settings):
    filter_name: Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"] = "ram-lak"


MethodName = Literal[
    "d3ip",
    "d3ip-meta",
    "d3ip-mbir",
    "ddip",
    "scd",
    "dds",
    "ddnm",
    "diffpir",
    "dps",
    "diffusionmbir",
    "score-sde",
    "tv",
    "cg",
    "fbp",
    "zero-filled",
]
ADAPTING = ("d3ip", "d3ip-meta", "d3ip-mbir", "ddip", "scd")
CLASSICAL = ("tv", "cg", "fbp", "zero-filled")  # no prior
PresetName = Literal["default", "paper"]


class RunConfig(Settings):
    """What is computed. Where it is computed (workers, GPUs) is not part of it: that changes nothing."""

    method: MethodName = "d3ip"
    preset: PresetName = Field("default", description="paper: the settings of the method's paper, for CT")
    prior: str = "default"
    adapter: str | None = None
    start_from: str | None = None
    seed: int = 0
    micro_batch: PositiveInt | None = Field(
        None,
        description="slices a network call, halved where a GPU's memory is full; "
        "none: 1 on a CPU, which gains nothing from more, 8 on a GPU",
    )
    sampler: SamplerSettings = SamplerSettings()
    noise: NoiseSettings = NoiseSettings()
    adaptation: AdaptationSettings = AdaptationSettings()
    validation: ValidationSettings = ValidationSettings()
    meta: MetaSettings = MetaSettings()
    scd: SCDSettings = SCDSettings()
    mbir: MBIRSettings = MBIRSettings()
    diffpir: DiffPIRSettings = DiffPIRSettings()
    dps: DPSSettings = DPSSettings()
    predictor_corrector: PredictorCorrectorSettings = PredictorCorrectorSettings()
    tv: TVSettings = TVSettings()
    cg: CGSettings = CGSettings()
    fbp: FBPSettings = FBPSettings()

    @property
    def uses_prior(self) -> bool:
        return self.method not in CLASSICAL

    @model_validator(mode="after")
    def _a_start_has_an_image(self) -> RunConfig:
        if (self.start_from is not None) != (self.sampler.start == "reconstruction"):
            raise ValueError("start_from and sampler.start: reconstruction go together")
        if self.start_from is not None and self.method in ("dps", "score-sde", *CLASSICAL):
            raise ValueError(f"start_from: {self.method} does not start from a reconstruction")
        if self.start_from is not None and self.method == "diffusionmbir" and self.mbir.trajectory != "ddim":
            raise ValueError("start_from: goes with mbir.trajectory: ddim, not with predictor_corrector")
        return self

    @model_validator(mode="after")
    def _an_adapter_has_a_method_that_adapts(self) -> RunConfig:
        if self.adapter is not None and self.method not in ADAPTING:
            raise ValueError(f"adapter: goes with {', '.join(ADAPTING)}; {self.method} has none")
        return self

    @model_validator(mode="after")
    def _auto_has_one_adapter_to_weigh(self) -> RunConfig:
        if self.adaptation.policy == "auto" and (
            self.method not in ("d3ip", "d3ip-mbir") or self.adaptation.judge == "measurements"
        ):
            raise ValueError(
                "adaptation.policy auto weighs the one adapter of d3ip or d3ip-mbir, with judge twins; "
                f"found {self.method} with judge {self.adaptation.judge}. Use policy fixed"
            )
        return self

    @model_validator(mode="after")
    def _the_published_trajectory_adapts_nothing(self) -> RunConfig:
        if self.mbir.trajectory == "predictor_corrector" and self.method == "d3ip-mbir":
            raise ValueError("mbir.trajectory: predictor_corrector goes with diffusionmbir, not d3ip-mbir")
        return self

    @model_validator(mode="after")
    def _scd_is_judged_by_the_measurements(self) -> RunConfig:
        if self.method == "scd" and self.adaptation.judge == "twins":
            raise ValueError("adaptation.judge: scd is judged by the measurements; by twins it is ddip")
        return self
