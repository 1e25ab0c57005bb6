"""The settings that each method's published code uses for CT, by section of `RunConfig`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Values = Mapping[str, Any]

# The published code's settings for CT, gathered from its scripts. Its faults are not repeated: one Adam
# without weight decay, no biases, no dropout, exact adjoints, an open boundary in z, slices that do not
# inherit. That Adam is ours: its β₂, its warm-up, and all convolutions adapted, also those between blocks.
_EVEN = {
    "num_steps": 50,
    "step_power": 1.0,
    "eta": 0.85,
    "noise_free_below_t": -1,
    "self_ensemble": False,
    "nonnegative": False,
    "cg_warm_start": False,
}
_DDS_SAMPLER = {**_EVEN, "cg_iterations": 5, "gamma": "infinite"}
_D3IP_ADAPTATION = {
    "loss": "measurements",
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
_DDIP_ADAPTATION = {**_D3IP_ADAPTATION, "adapt_start_t": 999, "adapt_end_t": 0, "loss_cg_iterations": 5}
# Not repeated of SCD: that it goes on with the noise that the network without its adapter sees, and that it
# adapts at the last four timesteps besides every fifth. Its η of 0.2 is DDIM's: 0.06 to 0.2 as it is here.
_SCD_ADAPTATION = {
    **_DDIP_ADAPTATION,
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

DDS: Values = {"sampler": {**_DDS_SAMPLER, "eta": 0.5}}
D3IP: Values = {
    "sampler": {**_DDS_SAMPLER, "start": "pseudo_inverse"},
    "adaptation": _D3IP_ADAPTATION,
}
# The published code of D3IP (meta) holds only its flags, and that an outer rate of 1 is plain D3IP.
D3IP_META: Values = {
    "sampler": {**_DDS_SAMPLER, "start": "pseudo_inverse"},
    "adaptation": {**_D3IP_ADAPTATION, "num_adapt_steps": 1},
    "meta": {"inner_steps": 10, "outer_rate": 0.1, "outer_decay": False},
}
D3IP_MBIR: Values = {
    "sampler": {**_DDS_SAMPLER, "start": "pseudo_inverse"},
    "adaptation": {**_D3IP_ADAPTATION, "loss_cg_iterations": 5},
    "mbir": {"admm": {"rho": 0.5 / _PUBLISHED_NORM, "lam": 0.01 / _PUBLISHED_NORM}, "sweeps": 5},
}
DDIP: Values = {"sampler": _DDS_SAMPLER, "adaptation": _DDIP_ADAPTATION}
SCD: Values = {
    "sampler": {**_DDS_SAMPLER, "num_steps": 100, "eta": 0.1, "cg_iterations": 3, "gamma": _SCD_GAMMA},
    "adaptation": _SCD_ADAPTATION,
    "scd": {"tv_weight": _SCD_TV},
}
DDNM: Values = {
    "sampler": {**_EVEN, "num_steps": 100, "cg_iterations": 200},
    "noise": {"level": "given"},
}
DIFFPIR: Values = {
    "noise": {"level": "given"},
    "sampler": {**_EVEN, "num_steps": 100, "eta": 0.3**0.5, "cg_iterations": 200},
    "diffpir": {"lam": 7.0},
}
DPS: Values = {"dps": {"num_steps": 1000, "scale": 1.0}}
DIFFUSION_MBIR: Values = {
    "sampler": {**_DDS_SAMPLER, "cg_iterations": 1},
    "mbir": {
        "admm": {"rho": 10 / _PUBLISHED_NORM, "lam": 0.04 / _PUBLISHED_NORM},
        "sweeps": 1,
        "trajectory": "predictor_corrector",
    },
    "predictor_corrector": {"num_steps": 1000},  # the paper's 2000 do not fit a prior of 1000 timesteps
}
SCORE_SDE: Values = {
    "sampler": {**_DDS_SAMPLER, "cg_iterations": 1},
    "predictor_corrector": {"num_steps": 1000},
}
