"""Read a diffusers scheduler: noise schedule and kind of prediction of the network trained with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from ddip_ray.errors import InputError
from ddip_ray.prior.formats.sidecar import bullets
from ddip_ray.prior.schedule import NoiseSchedule


class SchedulerConfig(BaseModel):
    """The fields of a DDPM-like scheduler that concern the network; those about sampling are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    beta_schedule: Literal["linear"]
    num_train_timesteps: PositiveInt = 1000
    beta_start: PositiveFloat = 1e-4
    beta_end: float = Field(0.02, gt=0, lt=1)
    trained_betas: None = None
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    rescale_betas_zero_snr: Literal[False] = False

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the scheduler describes."""
        return NoiseSchedule.linear(self.num_train_timesteps, self.beta_start, self.beta_end)


def read_scheduler(directory: Path) -> SchedulerConfig:
    """The scheduler of a pipeline or a bare U-Net; without one, noise prediction on DDPM's linear schedule.

    Raises:
        InputError: one for networks of another kind (flows, score_sde), or a schedule we do not know.
    """
    path = directory / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        path = directory / "scheduler_config.json"
    if not path.is_file():
        return SchedulerConfig(beta_schedule="linear")
    content = read_json(path)
    try:
        return SchedulerConfig.model_validate(content)
    except ValidationError as error:
        name = content.get("_class_name", "this scheduler")
        raise InputError(
            f"{path}: a prior trained with {name} is not supported:{bullets(error)}",
            "Expected a network of DDPM's kind, with linear betas.",
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A mapping; InputError when it is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"prior: {path} cannot be read ({error})", "Expected a diffusers directory."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"prior: {path}: expected a mapping, found {type(content).__name__}")
    return content
