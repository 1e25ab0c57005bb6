"""Every row of the table of methods keeps the contract of a method."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from small_problem import phantom, problem
from torch import Tensor

from ddip_ray.config.methods import METHODS
from ddip_ray.config.settings import RunConfig
from ddip_ray.operators import Sense
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.network import NetworkConfig, build_network
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.build import build_method, build_with_prior
from ddip_ray.solvers.core.communicator import Communicator
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.testing import MethodContract

ADAPTATION = {
    "num_adapt_steps": 1,
    "num_adapt_slices": 3,
    "lora_rank": 2,
    "adapt_start_t": 800,
    "num_copies": 2,
    "policy": "fixed",
}
SETTINGS: dict[str, Any] = {
    "sampler": {"num_steps": 3, "cg_iterations": 4, "final_cg_iterations": 6},
    "adaptation": ADAPTATION,
    "dps": {"num_steps": 3},
    "predictor_corrector": {"num_steps": 3},
    "tv": {"iterations": 3},
    "seed": 3,
}
AUTO = {**ADAPTATION, "policy": "auto"}
MEASURED = {**ADAPTATION, "loss": "measurements"}


@dataclass(frozen=True)
class Variant:
    """A row of the table, some of its settings, and what is special about the run."""

    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    tol: float = 1e-5
    lowest: float | None = 0.0
    noise_std: float = 0.0
    noise_is_estimated: bool = False
    ends_early: bool = False


EXACT = {"tol": 0.0}
VARIANTS = {
    "dds": Variant("dds", {"sampler": {**SETTINGS["sampler"], "anchor_distance": 4}}, **EXACT),
    "dds noisy": Variant("dds", noise_std=0.2, **EXACT),
    "dds noise level": Variant("dds", {"noise": {"num_slices": 3}}, noise_std=0.02, noise_is_estimated=True),
    "ddnm": Variant("ddnm", **EXACT),
    "diffpir": Variant("diffpir", **EXACT),
    "dps": Variant("dps", lowest=None),
    "score-sde": Variant("score-sde", lowest=None),
    "diffusionmbir": Variant("diffusionmbir"),
    "diffusionmbir cold": Variant("diffusionmbir", {"mbir": {"cold": True, "sweeps": 20, "tol": 0.3}}),
    "diffusionmbir admm": Variant("diffusionmbir", {"mbir": {"admm": {}}}),
    "diffusionmbir ve": Variant(
        "diffusionmbir", {"mbir": {"trajectory": "predictor_corrector"}}, lowest=None
    ),
    "d3ip": Variant("d3ip"),
    "d3ip noisy": Variant("d3ip", noise_std=0.2),
    "d3ip auto": Variant("d3ip", {"adaptation": AUTO, "validation": {"num_slices": 3}}),
    "d3ip impatient": Variant("d3ip", {"adaptation": AUTO, "validation": {"patience": 1}}, ends_early=True),
    "d3ip measured": Variant("d3ip", {"adaptation": MEASURED}),
    "d3ip-meta": Variant("d3ip-meta", {"meta": {"inner_steps": 2, "refine_steps": 1}}),
    "d3ip-mbir": Variant("d3ip-mbir", {"adaptation": AUTO}),
    "d3ip-mbir measured": Variant("d3ip-mbir", {"adaptation": MEASURED}),
    "ddip": Variant("ddip"),
    "scd": Variant("scd", {"adaptation": MEASURED}),
    "tv": Variant("tv"),
    "cg": Variant("cg", lowest=None, **EXACT),
    "fbp": Variant("fbp", lowest=None, **EXACT),
    "zero-filled": Variant("zero-filled", lowest=None, **EXACT),
}


def test_every_method_is_among_them() -> None:
    assert {variant.method for variant in VARIANTS.values()} == set(METHODS)


@pytest.fixture(scope="module")
def tiny_prior() -> DiffusionPrior:
    torch.manual_seed(0)
    config = NetworkConfig(channels=(8, 16), norm_num_groups=4, attention_head_dim=8)
    schedule = NoiseSchedule.linear()
    return DiffusionPrior(build_network(config), schedule, "v_prediction", digest="0" * 64, micro_batch=1)


def sense_problem(x: Tensor, slab: Slab) -> SlabProblem:
    """Half of k-space, seen by two coils."""
    size = x.shape[-1]
    ramp = torch.linspace(0.2, 1.0, size).expand(size, size)
    maps = torch.stack([ramp, 1.2 - ramp]).to(torch.complex64)
    maps = maps / maps.abs().square().sum(0).sqrt()
    mask = torch.zeros(size, size)
    mask[::2] = 1
    A = Sense(mask, maps)
    return SlabProblem(A, A.forward(x.to(torch.complex64))[slab.start : slab.stop], slab, len(x), 0.0)


class TestEveryMethod(MethodContract):
    @pytest.fixture(params=list(VARIANTS), autouse=True)
    def _variant(self, request: pytest.FixtureRequest, tiny_prior: DiffusionPrior) -> None:
        self.variant, self.prior = request.param, tiny_prior
        self.spec = VARIANTS[self.variant]
        self.tol, self.lowest, self.ends_early = self.spec.tol, self.spec.lowest, self.spec.ends_early

    def make_prior(self) -> DiffusionPrior | None:
        return copy.deepcopy(self.prior) if METHODS[self.spec.method].uses_prior else None

    def make_method(self, slab: Slab, communicator: Communicator, prior: Any) -> Method:
        config = RunConfig.model_validate({"method": self.spec.method, **SETTINGS, **self.spec.settings})
        x = phantom(size=16)
        if self.spec.method == "zero-filled":
            return build_method(config, sense_problem(x, slab), communicator)
        scan = problem(x, slab, views=8, noise_std=self.spec.noise_std)
        scan = replace(scan, noise_is_estimated=self.spec.noise_is_estimated)
        if prior is None:
            return build_method(config, scan, communicator)
        return build_with_prior(config, scan, communicator, prior)
