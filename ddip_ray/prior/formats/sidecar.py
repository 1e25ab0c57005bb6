"""Read the file beside another project's checkpoint that says what the weights do not show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from ddip_ray.errors import InputError
from ddip_ray.prior.formats import SIDECARS
from ddip_ray.prior.formats.adm import AdmConfig
from ddip_ray.prior.schedule import NoiseSchedule

# guided-diffusion's own, where a configuration does not say.
_MULTIPLES = {512: (0.5, 1, 1, 2, 2, 4, 4), 256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4)}
_MULTIPLES[320] = _MULTIPLES[256]  # SCD's and DDS's, for MRI


class _Part(BaseModel):
    """A part of the papers' configurations; keys that do not concern the network are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelPart(_Part):
    """The architecture, as guided-diffusion names it; −1 is "not given"."""

    num_head_channels: int = -1
    num_heads: int = -1
    use_new_attention_order: bool = False
    num_channels: PositiveInt | None = None
    num_res_blocks: PositiveInt | None = None
    attention_resolutions: str | int | None = None
    image_size: PositiveInt | None = None
    channel_mult: str = ""
    in_channels: PositiveInt = 1
    learn_sigma: bool = False
    use_scale_shift_norm: bool = True
    resblock_updown: bool = True

    @property
    def says_heads(self) -> bool:
        """Whether it gives the number or the width of attention heads."""
        return self.num_heads > 0 or self.num_head_channels > 0

    def adm(self) -> AdmConfig:
        """The whole architecture, which weights without names do not show.

        Raises:
            InputError: it is not there.
        """
        needed = ("num_channels", "num_res_blocks", "attention_resolutions", "image_size")
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise InputError(
                "its averaged weights (shadow_params) have no names, and nothing says what they are of",
                f"Put the paper's configuration beside it, or a .yaml with model: {{{', '.join(missing)}}}",
            )
        assert self.num_channels is not None
        assert self.num_res_blocks is not None
        assert self.image_size is not None
        try:
            given = tuple(float(word) for word in self.channel_mult.split(",") if word.strip())
            resolutions = [int(word) for word in str(self.attention_resolutions).split(",")]
        except ValueError as error:
            raise InputError(
                f"channel_mult or attention_resolutions: {error}, expected a list 1,2,4"
            ) from error
        multiples = given or _MULTIPLES.get(self.image_size)
        if multiples is None:
            raise InputError(
                f"image_size {self.image_size}: expected 64, 128, 256, 320, 512, or a channel_mult"
            )
        return AdmConfig(
            channels=tuple(int(self.num_channels * multiple) for multiple in multiples),
            num_res_blocks=self.num_res_blocks,
            attention=tuple(self.image_size >> level in resolutions for level in range(len(multiples))),
            in_channels=self.in_channels,
            out_channels=self.in_channels * (2 if self.learn_sigma else 1),
            scale_shift_norm=self.use_scale_shift_norm,
            resblock_updown=self.resblock_updown,
        )


class DiffusionPart(_Part):
    """The noise schedule."""

    beta_schedule: Literal["linear"] = "linear"
    beta_start: PositiveFloat = 1e-4
    beta_end: float = Field(0.02, gt=0, lt=1)
    num_diffusion_timesteps: PositiveInt = 1000


def _low_then_high(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError("expected [low, high]")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_low_then_high)]


class Card(_Part):
    """`card.json` beside a U-Net: what its weights should be, and the images that it was trained on."""

    digest: str | None = None
    image_range: Range | None = None


class Sidecar(_Part):
    """A file in the layout of the papers' configurations; all of it may be left out."""

    model: ModelPart | None = None
    diffusion: DiffusionPart | None = None
    image_range: Range = (0.0, 1.0)  # in which SCD, D3IP and score_sde train

    @property
    def architecture(self) -> ModelPart:
        """The network's architecture; all fields unset if the file has none."""
        return self.model or ModelPart()

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule; DDPM's linear one if the file has none."""
        said = self.diffusion or DiffusionPart()
        return NoiseSchedule.linear(said.num_diffusion_timesteps, said.beta_start, said.beta_end)


def read_sidecar(checkpoint: Path) -> Sidecar:
    """The sidecar of ``checkpoint``, with the usual values where there is no such file.

    Raises:
        InputError: a file that is none, or says what cannot be; one line for each field.
    """
    for suffix in SIDECARS:
        beside = checkpoint.with_suffix(suffix)
        if not beside.is_file():
            continue
        try:
            return Sidecar.model_validate(yaml.safe_load(beside.read_text()) or {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{beside}: cannot be read as YAML ({error})") from error
        except ValidationError as error:
            raise InputError(f"{beside}: does not describe a prior:{bullets(error)}") from error
    return Sidecar()


def load_card(path: Path) -> Card:
    """The model card at ``path``, empty if there is no file; InputError if it is wrong."""
    if not path.is_file():
        return Card()
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: does not describe a prior:{bullets(error)}") from error


def bullets(error: ValidationError) -> str:
    """A line for each field that is wrong: what was found, and what was expected."""
    lines = [(".".join(map(str, e["loc"])) or "file", e["msg"], e["input"]) for e in error.errors()]
    return "".join(f"\n  - {field}: {said} (found {found!r})" for field, said, found in lines)
