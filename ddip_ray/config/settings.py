"""The settings of every method: frozen, unknown keys refused, importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from ddip_ray.config.methods import ADAPTING, METHOD_NAMES, METHODS, MethodRow, overlaid, preset_values
from ddip_ray.config.names import MethodName, PresetName
from ddip_ray.config.renamed import with_new_names

RESTART_T = 200  # timestep from which an earlier reconstruction is refined, unless start_t says otherwise


class Settings(BaseModel):
    """A section of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


StartName = Literal["noise", "same_noise", "pseudo_inverse", "reconstruction"]


class SamplerSettings(Settings):
    """The reverse trajectory that DDS, DDNM, DiffPIR, DiffusionMBIR and the adapting methods share."""

    num_steps: PositiveInt = Field(50, description="Sampling steps; each needs one network call per slice.")
    step_power: PositiveFloat = Field(
        4.0,
        description="Spacing of the timesteps: 1 is even; a larger power puts more steps near the clean "
        "image.",
    )
    start: StartName = Field(
        "noise",
        description="Initial state x_T: `noise`, independent in every slice; `same_noise`, one draw for all "
        "slices; `pseudo_inverse`, A†y with noise added; `reconstruction`, the result `start_from` "
        "with noise added.",
    )
    start_t: int | None = Field(
        None,
        ge=0,
        description="First timestep. None starts from pure noise. For `pseudo_inverse` and `reconstruction` "
        "a few hundred is usual.",
    )
    eta: float = Field(
        1.0, ge=0, le=1, description="Stochasticity η in the convention of DDS and D3IP (not DDIM's)."
    )
    noise_free_below_t: int = Field(
        100,
        ge=-1,
        description="No noise is added in steps that lead to this timestep or below; -1 adds noise to the "
        "end, as published.",
    )
    self_ensemble: bool = Field(
        True,
        description="Flip or transpose the slices before the network and back after it, another way at "
        "every step (geometric self-ensemble).",
    )
    nonnegative: bool = Field(
        True,
        description="Real images are not below the lower end of the image range: denoised images are "
        "clipped there, and with noise-free data the final steps keep it as a constraint.",
    )
    cg_iterations: PositiveInt = Field(
        20, description="Maximum CG iterations of the data consistency in a step that adds noise."
    )
    final_cg_iterations: PositiveInt = Field(
        400,
        description="Maximum CG iterations in a noise-free step. Noise-free data and limited angles need "
        "many. The published ADMM ignores it.",
    )
    cg_warm_start: bool = Field(
        True, description="Start CG from the correction that it found at the previous timestep."
    )
    gamma: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | Literal["infinite"] | None = Field(
        None,
        description="Weight γ of the data against the denoised image. None derives it from the noise level, "
        "infinite for noise-free data.",
    )
    data_trust: PositiveFloat = Field(
        6.0,
        description="Ratio of the denoised image's error variance to the variance of x_t's noise that the "
        "automatic gamma assumes; a larger value trusts noisy data more.",
    )
    anchor_distance: PositiveInt = Field(
        1,
        description="Slices between anchors of z-correlated noise (ISCS); 1 draws every slice independently.",
    )

    def num_cg_iterations(self, t_next: int) -> int:
        """CG iterations of the step that leads to timestep ``t_next``."""
        is_noise_free = 0 <= self.noise_free_below_t >= t_next
        return self.final_cg_iterations if is_noise_free else self.cg_iterations

    @model_validator(mode="after")
    def _pure_noise_starts_at_the_top(self) -> SamplerSettings:
        if self.start in ("noise", "same_noise") and self.start_t is not None:
            raise ValueError(f"start_t {self.start_t} goes with start: pseudo_inverse or reconstruction")
        if self.start == "reconstruction" and self.start_t is None:
            raise ValueError("start: reconstruction needs a start_t, or noise would be all there is")
        return self


class AdaptationSettings(Settings):
    """How D3IP, DDIP and SCD adapt the prior along the trajectory."""

    loss: Literal["rescan", "measurements"] = Field(
        "rescan",
        description="What the adapter minimises: `rescan`, the error of reconstructing simulated rescans of "
        "the first result; `measurements`, the misfit to the scan's own data, as published.",
    )
    lora_rank: PositiveInt = Field(16, description="Rank of the low-rank factors.")
    lora_scale: PositiveFloat = Field(1.0, description="Factor on the product of the low-rank factors.")
    lora_init_std: PositiveFloat | None = Field(
        None, description="Standard deviation of lora_down at initialisation; None is 1/√fan_in."
    )
    learning_rate: PositiveFloat = Field(1e-3, description="Peak learning rate, after a short warm-up.")
    final_rate: float = Field(
        0.1, gt=0, le=1, description="Learning rate of the last step over the peak; linear in between."
    )
    num_adapt_steps: NonNegativeInt = Field(
        8,
        description="Optimiser steps (for D3IP meta: Reptile's outer steps) at each adapted timestep; 0 "
        "keeps a given adapter as it is.",
    )
    num_adapt_slices: PositiveInt = Field(
        8,
        description="Slices drawn over the volume for each optimiser step. A volume with fewer slices uses "
        "more rescan copies of each.",
    )
    adapt_start_t: int = Field(12, ge=0, description="First (noisiest) timestep that adapts.")
    adapt_end_t: int = Field(0, ge=0, description="Last timestep that adapts.")
    adapt_every: PositiveInt = Field(1, description="Adapt at every n-th of these timesteps.")
    downsampling: PositiveInt = Field(
        2, description="Rescan copies are this factor smaller, from this factor fewer views."
    )
    num_copies: PositiveInt = Field(
        4, description="Maximum number of rescan copies of each slice, each rotated differently."
    )
    target_copies: PositiveInt = Field(
        96,
        description="Target number of rescan copies per adapter; with many slices, fewer copies of each (at "
        "least one).",
    )
    loss_cg_iterations: NonNegativeInt = Field(
        20,
        description="CG iterations of the data consistency inside the loss. Rescan copies continue from "
        "their last correction.",
    )
    policy: Literal["fixed", "auto"] = Field(
        "fixed",
        description="`auto` reconstructs some slices without some of their views and lets these views "
        "decide how strongly to adapt, or not at all.",
    )

    def adapts_at(self, t: int) -> bool:
        """Whether timestep ``t`` adapts."""
        return self.adapt_end_t <= t <= self.adapt_start_t


class NoiseSettings(Settings):
    """How far the methods with a prior trust measured data."""

    level: Literal["auto", "given"] = Field(
        "auto",
        description="`auto`: where the store's noise level is an estimate, held-out measurements choose a "
        "multiple of it.",
    )
    factors: tuple[PositiveFloat, ...] = Field(
        (1.0, 2.0, 4.0), min_length=1, description="Multiples of the estimate to try."
    )
    num_slices: PositiveInt = Field(4, description="Approximate number of slices to try them on.")
    held_out_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the views to hold out; at least one view."
    )


class ValidationSettings(Settings):
    """How held-out measurements decide on the adaptation (``adaptation.policy: auto``)."""

    num_slices: PositiveInt = Field(
        16, description="Approximate number of slices reconstructed without some of their views."
    )
    held_out_share: float = Field(
        0.05, gt=0, lt=1, description="Share of the views to hold out; at least one view."
    )
    strengths: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(
        (0.0, 0.5, 1.0, 1.5), min_length=1, description="Multiples of the adapter to try."
    )
    patience: PositiveInt = Field(
        10, description="Adaptation stops after this many adapted steps without a clear gain."
    )

    def spacing(self, num_slices: int, *, couples_slices: bool) -> int:
        """Distance between validation slices; 1 where slices are coupled, because neighbours are needed."""
        return 1 if couples_slices else max(1, num_slices // self.num_slices)


class MetaSettings(Settings):
    """D3IP (meta): Reptile over slices, and a short refinement on each."""

    inner_steps: PositiveInt = Field(4, description="Adam steps on each drawn slice in an outer step.")
    outer_rate: float = Field(
        1.0, gt=0, le=1, description="Share β of the way towards the slices' mean that the adapter moves."
    )
    outer_decay: bool = Field(True, description="Decrease outer_rate linearly to zero.")
    refine_steps: NonNegativeInt = Field(
        2, description="Adam steps on each slice before its own reconstruction step."
    )


class SCDSettings(Settings):
    """Adaptation by the measurements (SCD, and the published D3IP and DDIP)."""

    tv_weight: NonNegativeFloat = Field(
        0.0,
        description="Weight of the estimate's anisotropic total variation, with A normalised to norm 1.",
    )


class ADMMSettings(Settings):
    """DiffusionMBIR's published total variation along z, by ADMM."""

    lam: PositiveFloat = Field(1.5e-6, description="TV weight λ, with A normalised to norm 1.")
    rho: PositiveFloat = Field(
        3e-4, description="ADMM penalty ρ; steps between slices below λ/ρ are flattened."
    )


class MBIRSettings(Settings):
    """Total variation along z in the data consistency: DiffusionMBIR and D3IP (mbir)."""

    trajectory: Literal["ddim", "predictor_corrector"] = Field(
        "ddim",
        description="DiffusionMBIR's sampler: `ddim`, the trajectory of DDS; `predictor_corrector`, the "
        "published VE-SDE sampler.",
    )
    weight: PositiveFloat = Field(
        0.5,
        description="TV weight against ½ ‖x − x0_hat‖², relative to the noise-to-signal ratio of x_t.",
    )
    admm: ADMMSettings | None = Field(
        None, description="If given, ADMM as published is used instead of `weight`."
    )
    sweeps: PositiveInt = Field(1, description="Maximum number of sweeps per timestep.")
    tol: NonNegativeFloat = Field(
        0.02,
        description="Sweeps end when x is within this tolerance of the minimum, relative to `weight` (ADMM: "
        "to λ/ρ).",
    )
    cold: bool = Field(
        False,
        description="Start the dual from zero at each timestep (slow; wants some hundred sweeps) instead of "
        "keeping it.",
    )


class DiffPIRSettings(Settings):
    """DiffPIR's own setting."""

    lam: PositiveFloat = Field(1.0, description="Weight λ of the prior.")


class DPSSettings(Settings):
    """Diffusion posterior sampling."""

    num_steps: PositiveInt = Field(1000, description="Ancestral steps, evenly spaced.")
    scale: PositiveFloat = Field(
        1.0, description="Step size ζ′ along the gradient of the misfit, with A normalised to norm 1."
    )


class PredictorCorrectorSettings(Settings):
    """The VE-SDE sampler of Score-MRI and the published DiffusionMBIR."""

    num_steps: PositiveInt = Field(500, description="Predictor steps.")
    corrector_steps: NonNegativeInt = Field(1, description="Langevin steps after each predictor step.")
    snr: PositiveFloat = Field(
        0.16, description="Signal-to-noise ratio r that sets the size of a Langevin step."
    )


class TVSettings(Settings):
    """3D total variation, the classical method to beat."""

    lam: PositiveFloat | None = Field(
        None, description="TV weight λ, with A normalised to norm 1; None derives it from the noise level."
    )
    iterations: PositiveInt = Field(1000, description="Maximum number of ADMM iterations.")
    tol: NonNegativeFloat = Field(1e-3, description="ADMM ends when both relative residuals are below this.")
    cg_iterations: PositiveInt = Field(10, description="CG iterations of each x-update.")
    edge: PositiveFloat = Field(
        0.01, description="λ/ρ: differences between voxels below this are flattened in one iteration."
    )
    nonnegative: bool = Field(True, description="Constrain real images to be non-negative.")


class CGSettings(Settings):
    """Conjugate gradients from zero: least squares by early stopping."""

    iterations: PositiveInt = Field(12, description="CG iterations; fewer regularise more.")


class FBPSettings(Settings):
    """Filtered back-projection."""

    filter_name: Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"] = Field(
        "ram-lak", description="Window on the ramp filter."
    )


class RunConfig(Settings):
    """The configuration of a run. Where it runs (workers, GPUs) changes no result and is not part of it.

    A field that is not given takes the value that ``preset`` holds for ``method``
    (`ddip_ray.config.methods.METHODS`), so ``RunConfig(method="d3ip")`` is what ``--method d3ip`` runs.
    Sections can be given as mappings of some of their keys.
    """

    method: MethodName = Field("d3ip", description="Name of the method.")
    preset: PresetName = Field(
        "default",
        description="Settings that hold where none are given: `default`, ours; `paper`, those of the "
        "method's paper for CT.",
    )
    prior: str = Field(
        "default",
        description="Name of a shipped prior, a diffusers directory, or a guided-diffusion or score_sde "
        "checkpoint.",
    )
    adapter: str | None = Field(None, description="File of an adapter to start from.")
    start_from: str | None = Field(None, description="Path of an earlier result to start from.")
    seed: int = Field(0, description="Seed of every random draw.")
    micro_batch: PositiveInt | None = Field(
        None,
        description="Slices per network call. None: 1 on a CPU, which gains nothing from more; 8 on a GPU, "
        "halved where memory is short.",
    )
    sampler: SamplerSettings = Field(SamplerSettings(), description="Reverse trajectory.")
    noise: NoiseSettings = Field(NoiseSettings(), description="Trust in measured data.")
    adaptation: AdaptationSettings = Field(AdaptationSettings(), description="Adaptation of the prior.")
    validation: ValidationSettings = Field(
        ValidationSettings(), description="Decision on the adaptation by held-out views."
    )
    meta: MetaSettings = Field(MetaSettings(), description="D3IP (meta).")
    scd: SCDSettings = Field(SCDSettings(), description="Adaptation by the measurements.")
    mbir: MBIRSettings = Field(MBIRSettings(), description="Total variation along z.")
    diffpir: DiffPIRSettings = Field(DiffPIRSettings(), description="DiffPIR.")
    dps: DPSSettings = Field(DPSSettings(), description="DPS.")
    predictor_corrector: PredictorCorrectorSettings = Field(
        PredictorCorrectorSettings(), description="VE-SDE sampler."
    )
    tv: TVSettings = Field(TVSettings(), description="3D total variation.")
    cg: CGSettings = Field(CGSettings(), description="Conjugate gradients.")
    fbp: FBPSettings = Field(FBPSettings(), description="Filtered back-projection.")

    @classmethod
    def for_method(cls, name: MethodName, **overrides: Any) -> RunConfig:
        """The configuration of method ``name``; ``overrides`` are fields, sections as mappings."""
        return cls.model_validate({"method": name, **overrides})

    @property
    def row(self) -> MethodRow:
        """The method's row in the table of methods."""
        return METHODS[self.method]

    @property
    def uses_prior(self) -> bool:
        """Whether the method calls a network."""
        return self.row.uses_prior

    def relevant(self) -> dict[str, Any]:
        """The settings, as JSON, that decide the volume: equal ones give equal volumes."""
        with_prior = ("prior", "adapter", "start_from", "seed", "noise") if self.uses_prior else ()
        names = {"method", *self.row.sections, *with_prior}
        return self.model_dump(mode="json", include=names)

    @model_validator(mode="before")
    @classmethod
    def _over_the_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = with_new_names(values)
        if given.get("start_from") is not None:
            given = overlaid({"sampler": {"start": "reconstruction", "start_t": RESTART_T}}, given)
        method = given.get("method", cls.model_fields["method"].default)
        preset = given.get("preset", cls.model_fields["preset"].default)
        if not isinstance(method, str) or method not in METHODS or preset not in ("default", "paper"):
            return given  # the fields' own checks say what is wrong
        return overlaid(preset_values(preset, method), given)

    @field_validator("method")
    @classmethod
    def _method_exists(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(f"no method {name!r}; there are {', '.join(METHOD_NAMES)}")
        return name

    @model_validator(mode="after")
    def _a_start_has_an_image(self) -> RunConfig:
        if (self.start_from is not None) != (self.sampler.start == "reconstruction"):
            raise ValueError("start_from and sampler.start: reconstruction go together")
        if self.start_from is not None and not self.row.takes_initial_image:
            raise ValueError(f"start_from: {self.method} does not start from a reconstruction")
        if self.start_from is not None and self.method == "diffusionmbir" and self.mbir.trajectory != "ddim":
            raise ValueError("start_from: goes with mbir.trajectory: ddim, not with predictor_corrector")
        return self

    @model_validator(mode="after")
    def _an_adapter_has_a_method_that_adapts(self) -> RunConfig:
        if self.adapter is not None and not self.row.adapts:
            raise ValueError(f"adapter: goes with {', '.join(ADAPTING)}; {self.method} has none")
        return self

    @model_validator(mode="after")
    def _auto_has_one_adapter_to_weigh(self) -> RunConfig:
        if self.adaptation.policy == "auto" and (
            "validation" not in self.row.sections or self.adaptation.loss == "measurements"
        ):
            validated = [name for name, row in METHODS.items() if "validation" in row.sections]
            raise ValueError(
                f"adaptation.policy: auto weighs the one adapter of {' or '.join(validated)}, with "
                f"loss: rescan; found {self.method} with loss: {self.adaptation.loss}. Use policy: fixed"
            )
        return self

    @model_validator(mode="after")
    def _the_published_trajectory_adapts_nothing(self) -> RunConfig:
        if self.mbir.trajectory == "predictor_corrector" and self.method == "d3ip-mbir":
            raise ValueError("mbir.trajectory: predictor_corrector goes with diffusionmbir, not d3ip-mbir")
        return self

    @model_validator(mode="after")
    def _scd_minimises_the_misfit(self) -> RunConfig:
        if self.method == "scd" and self.adaptation.loss == "rescan":
            raise ValueError("adaptation.loss: scd adapts to the measurements; with loss: rescan it is ddip")
        return self
