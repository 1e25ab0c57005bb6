"""The guide's example of a new method: one file, one row, and the contract of a method."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from small_problem import phantom, problem

from ddip_ray.config.methods import METHODS, MethodRow
from ddip_ray.config.settings import RunConfig
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.solvers.build import build_with_prior
from ddip_ray.testing import MethodContract

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "adding-a-method.md"
FILE, ROW, TEST = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> MethodRow:
    """The page's row, in the table of methods, and its file as a module."""
    rows: dict[str, MethodRow] = eval(ROW, {"MethodRow": MethodRow})
    ((name, row),) = rows.items()
    monkeypatch.setitem(METHODS, name, row)
    module = ModuleType(row.builder.partition(":")[0])
    exec(FILE, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return row


def test_the_file_has_at_most_30_lines(row: MethodRow) -> None:
    assert f"`{row.builder.partition(':')[0].replace('.', '/')}.py`" in PAGE.read_text()
    assert len(FILE.splitlines()) <= 30


@pytest.mark.parametrize("name", [name for name in vars(MethodContract) if name.startswith("test_")])
def test_it_keeps_the_contract(row: MethodRow, prior: DiffusionPrior, name: str) -> None:
    names: dict[str, Any] = {
        "MethodContract": MethodContract,
        "RunConfig": RunConfig,
        "build_with_prior": build_with_prior,
        "small_prior": lambda: _one_slice_a_call(prior),
        "small_problem": lambda slab: problem(phantom(size=16), slab, views=8),
    }
    exec(TEST, names)
    getattr(names["TestGradientStep"](), name)()


def _one_slice_a_call(prior: DiffusionPrior) -> DiffusionPrior:
    return DiffusionPrior(prior.network, prior.schedule, prior.prediction, digest=prior.digest)
