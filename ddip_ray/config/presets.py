"""Settings that belong to a method: our defaults, and what its paper used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ddip_ray.config.settings import PresetName

Values = Mapping[str, Any]

# Where a method wants something else than `RunConfig` says. SCD's steps are few and small: at ten times the
# rate, or four steps a timestep, it was seen to end below DDS on this trajectory.
_DEFAULT: dict[str, Values] = {
    "d3ip": {"adaptation": {"policy": "auto"}},
    "scd": {
        "adaptation": {
            "judge": "measurements",
            "lora_rank": 4,
            "learning_rate": 1e-5,
            "num_adapt_steps": 1,
            "adapt_start_t": 999,
            "loss_cg_iterations": 8,
        }
    },
    "d3ip-meta": {"adaptation": {"num_adapt_steps": 2}},  # outer steps, each of as many as inner_steps
    "score-sde": {"sampler": {"quiet_cg_iterations": 20}},  # a thousand projections, each of a noisy state
}

# The published code's settings for CT, gathered from its scripts. Its faults are not repeated: one Adam
# without weight decay, no biases, no dropout, exact adjoints, an open boundary in z, slices that do not
# inherit. That Adam is ours: its β₂, its warm-up, and all convolutions adapted, also those between blocks.
_EVEN = {
    "num_steps": 50,
    "step_power": 1.0,
    "eta": 0.85,
    "quiet_t": -1,
    "self_ensemble": False,
    "nonnegative": False,
    "cg_warm_start": False,
}
_DDS = {**_EVEN, "cg_iterations": 5, "gamma": "infinite"}
_D3IP = {
    "judge": "measurements",
    "lora_rank": 4,
    "lora_init_std": 1 / 4,
    "learning_rate": 1e-3,
    "final_rate": 1.0,
    "num_adapt_steps": 10,
    "num_adapt_slices": 3,
    "adapt_start_t": 980,
    "adapt_end_t": 20,
    "loss_cg_iterations": 1,
}
_DDIP = {**_D3IP, "adapt_start_t": 999, "adapt_end_t": 0, "loss_cg_iterations": 5}
# Not repeated of SCD: that it goes on with the noise that the network without its adapter sees, and that it
# adapts at the last four timesteps besides every fifth. Its η of 0.2 is DDIM's: 0.06 to 0.2 as it is here.
_SCD = {
    **_DDIP,
    "lora_rank": 12,
    "lora_init_std": 1 / 12,
    "learning_rate": 3e-4,
    "num_adapt_steps": 18,
    "adapt_every": 5,
    "loss_cg_iterations": 3,
}
# The published A is a sum over pixels and D3IP's "adjoint" π/(2 · views) times a back-projection: for 256²
# slices their product has a norm of about 350, which ρ and λ are divided by here. SCD's adjoint is one: its γ
# goes with the square of the norm of A for 60 views, its TV against the mean over their pixels.
_PUBLISHED_NORM = 350.0
_SCD_NORM = _PUBLISHED_NORM * 2 * 60 / math.pi
_SCD_GAMMA, _SCD_TV = 0.2 * _SCD_NORM, 1e-3 * 60 * 363 / _SCD_NORM
_MBIR = {"admm": {"rho": 10 / _PUBLISHED_NORM, "lam": 0.04 / _PUBLISHED_NORM}, "sweeps": 1}
_D3IP_MBIR = {"admm": {"rho": 0.5 / _PUBLISHED_NORM, "lam": 0.01 / _PUBLISHED_NORM}, "sweeps": 5}

_PAPER: dict[str, Values] = {
    "dds": {"sampler": {**_DDS, "eta": 0.5}},
    "d3ip": {"sampler": {**_DDS, "start": "pseudo_inverse"}, "adaptation": _D3IP},
    # Of meta the published code has the flags, and that an outer rate of 1 is plain D3IP.
    "d3ip-meta": {
        "sampler": {**_DDS, "start": "pseudo_inverse"},
        "adaptation": {**_D3IP, "num_adapt_steps": 1},
        "meta": {"inner_steps": 10, "outer_rate": 0.1, "outer_decay": False},
    },
    "d3ip-mbir": {
        "sampler": {**_DDS, "start": "pseudo_inverse"},
        "adaptation": {**_D3IP, "loss_cg_iterations": 5},
        "mbir": _D3IP_MBIR,
    },
    "ddip": {"sampler": _DDS, "adaptation": _DDIP},
    "scd": {
        "sampler": {**_DDS, "num_steps": 100, "eta": 0.1, "cg_iterations": 3, "gamma": _SCD_GAMMA},
        "adaptation": _SCD,
        "scd": {"tv_weight": _SCD_TV},
    },
    "ddnm": {
        "sampler": {**_EVEN, "num_steps": 100, "cg_iterations": 200},
        "noise": {"level": "given"},
    },
    "diffpir": {
        "noise": {"level": "given"},
        "sampler": {**_EVEN, "num_steps": 100, "eta": 0.3**0.5, "cg_iterations": 200},
        "diffpir": {"lam": 7.0},
    },
    "dps": {"dps": {"num_steps": 1000, "scale": 1.0}},
    "diffusionmbir": {
        "sampler": {**_DDS, "cg_iterations": 1},
        "mbir": {**_MBIR, "trajectory": "predictor_corrector"},
        "predictor_corrector": {"num_steps": 1000},  # the paper's 2000 do not fit a prior of 1000 timesteps
    },
    "score-sde": {"sampler": {**_DDS, "cg_iterations": 1}, "predictor_corrector": {"num_steps": 1000}},
}


def preset_values(name: PresetName, method: str) -> dict[str, Any]:
    """What a preset says of ``method``; what it does not say is as in `RunConfig`."""
    return dict((_PAPER if name == "paper" else _DEFAULT).get(method, {}))


def overlaid(below: Values, above: Values) -> dict[str, Any]:
    """``above`` over ``below``, section by section."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = overlaid(under, value) if both else value  # type: ignore[arg-type]
    return merged
