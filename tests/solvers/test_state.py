"""A method that is stopped anywhere goes on as if it had not been, on the same workers or on others."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from small_problem import build, phantom, problem
from torch import Tensor
from workers import on_workers

from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.state import Record, SliceRows, State

ADAPTATION = {
    "num_adapt_steps": 1,
    "num_adapt_slices": 3,
    "lora_rank": 2,
    "adapt_start_t": 800,
    "num_copies": 2,
}
SETTINGS: dict[str, Any] = {
    "sampler": {"num_steps": 4, "cg_iterations": 4, "final_cg_iterations": 6},
    "adaptation": {**ADAPTATION, "policy": "fixed"},
    "dps": {"num_steps": 4},
    "predictor_corrector": {"num_steps": 3},
    "tv": {"iterations": 4},
    "seed": 3,
}
METHODS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("dds", "ddnm", "diffpir", "dps", "score-sde", "diffusionmbir", "ddip")},
    **{name: {} for name in ("d3ip", "d3ip-mbir", "d3ip-meta")},
    "diffusionmbir-admm": {"mbir": {"admm": {}}},
    "d3ip-auto": {"adaptation": {**ADAPTATION, "policy": "auto"}},
    "d3ip-impatient": {"adaptation": {**ADAPTATION, "policy": "auto"}, "validation": {"patience": 1}},
    "d3ip-gaining": {
        "sampler": {"num_steps": 4, "cg_iterations": 5, "final_cg_iterations": 5, "nonnegative": False},
        "adaptation": {"num_adapt_steps": 3, "lora_rank": 2, "learning_rate": 1e-2, "policy": "auto"}
        | {"adapt_start_t": 999},
        "seed": 0,
    },
    "scd": {"adaptation": {**ADAPTATION, "loss": "measurements"}},
    "d3ip-measured": {"adaptation": {**ADAPTATION, "policy": "fixed", "loss": "measurements"}},
    "dds-noise": {"noise": {"num_slices": 3}},
}


def method_on(slab: Slab, communicator: Any, prior: DiffusionPrior, name: str) -> Any:
    base = name if name in ("d3ip-mbir", "d3ip-meta", "score-sde") else name.partition("-")[0]
    settings = {**SETTINGS, **METHODS[name]}
    scan = problem(phantom(), slab, noise_std=0.02 if name == "dds-noise" else 0.0)
    return build(base, replace(scan, noise_is_estimated=True), copy.deepcopy(prior), communicator, **settings)


def facts(method: Any) -> dict[str, Any]:
    """What is told of a run, and decided in it."""
    found = {"nfe": method.nfe, "adapt_nfe": method.adapt_nfe}
    if (validation := getattr(method, "validation", None)) is not None:
        found |= {key: getattr(validation, key) for key in ("gained", "given_up", "strength")}
    return found


def undisturbed(prior: DiffusionPrior, name: str) -> tuple[Tensor, Any]:
    method = method_on(Slab(0, 6), Alone(), prior, name)
    for i in range(method.num_steps):
        method.step(i)
    return method.result(), method


def in_relays(
    prior: DiffusionPrior, name: str, num_steps: int, layouts: list[list[int]]
) -> tuple[Tensor, dict[str, Any]]:
    """The result where new workers, on the next of ``layouts``, do every step from the last ones' record."""
    records: list[Record] = []
    x, told = torch.empty(0), dict[str, Any]()
    for i in range(num_steps):
        made: dict[int, Record] = {}
        step = partial(one_step, prior, name, i, Record.joined(records), made, told)
        x = on_workers(layouts[i % len(layouts)], step)
        records = [made[start] for start in sorted(made)]
    return x, told


def one_step(
    prior: DiffusionPrior,
    name: str,
    i: int,
    last: Record,
    made: dict[int, Record],
    told: dict[str, Any],
    slab: Slab,
    member: Any,
) -> Tensor:
    method = method_on(slab, member, prior, name)
    if i > 0:
        method.keep(State(last, restoring=True))
    method.step(i)
    record = made.setdefault(slab.start, Record())
    method.keep(State(record))
    record.values = json.loads(json.dumps(record.values))  # as they come back from a file
    told.update(facts(method))
    return method.result()


@pytest.mark.parametrize("name", list(METHODS))
def test_every_step_by_another_worker(prior: DiffusionPrior, name: str) -> None:
    whole, method = undisturbed(prior, name)
    x, told = in_relays(prior, name, method.num_steps, [[0, 6]])
    assert torch.equal(x, whole)
    assert told == facts(method)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_step_by_another_number_of_workers(prior: DiffusionPrior, name: str) -> None:
    whole, method = undisturbed(prior, name)
    layouts = [[0, 2, 6], [0, 3, 5, 6], [0, 4, 6], [0, 1, 6], [0, 6]]
    x, told = in_relays(prior, name, method.num_steps, layouts)
    assert (x - whole).abs().max() <= 1e-5
    assert told == pytest.approx(facts(method), rel=1e-3)


def test_both_ends_of_adapting_are_among_them(prior: DiffusionPrior) -> None:
    gaining, impatient = (facts(undisturbed(prior, name)[1]) for name in ("d3ip-gaining", "d3ip-impatient"))
    assert gaining["gained"]
    assert gaining["strength"] > 0
    assert impatient["given_up"]
    assert impatient["strength"] == 0


@pytest.mark.parametrize("name", ["fbp", "cg", "tv"])
def test_classical_methods(prior: DiffusionPrior, name: str) -> None:
    from ddip_ray.config.settings import RunConfig
    from ddip_ray.solvers.build import build_method

    config, scan = RunConfig.model_validate({"method": name, "tv": SETTINGS["tv"]}), problem(phantom())
    for when in (0, 1):
        record, first, second, whole = Record(), *(build_method(config, scan, Alone()) for _ in range(3))
        for i in range(when):
            first.step(i)
        first.keep(State(record))
        second.keep(State(record, restoring=True))
        for i in range(whole.num_steps):
            whole.step(i)
            if i >= when:
                second.step(i)
        assert torch.equal(second.result(), whole.result())


def test_rows_go_with_their_slices() -> None:
    x = torch.arange(6.0).reshape(6, 1)  # of the slices 2 to 7
    joined = Record.joined(
        [Record({"x": SliceRows(Slab(2, 3), x[:1])}), Record({"x": SliceRows(Slab(3, 8), x[1:])})]
    ).slices["x"]
    assert torch.equal(joined.of(Slab(4, 6)), x[2:4])
    assert joined.of(Slab(9, 9)).shape == (0, 1)
    with pytest.raises(RuntimeError, match="asked for"):
        joined.of(Slab(4, 9))


def test_records_with_a_gap() -> None:
    with pytest.raises(RuntimeError, match="no neighbours"):
        Record.joined([Record({"x": SliceRows(Slab(z, z + 1), torch.zeros(1))}) for z in (0, 2)])


def test_what_was_not_recorded_is_missed() -> None:
    with pytest.raises(RuntimeError, match=r"lacks sampler\.x_t"):
        State(Record(), restoring=True).within("sampler").slices("x_t", torch.zeros(1), Slab(0, 1))
