"""Cores that a process may use: what a batch job and a container leave it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddip_ray.engine.ray.resources import num_cores
from ddip_ray.numerics.cores import own_cores


@pytest.fixture
def one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_core")
def test_a_batch_job_has_the_cores_it_was_given() -> None:
    assert num_cores() == 1


@pytest.mark.parametrize("quota", ["150000 100000", "20000 100000"])
def test_a_container_has_the_whole_cores_that_its_quota_pays_for(tmp_path: Path, quota: str) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert own_cores(tmp_path) == 1


@pytest.mark.parametrize("content", [None, "", "150000", "max 100000"])
def test_without_a_quota_that_can_be_read_all_cores_count(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "cpu.max").write_text(content)
    assert own_cores(tmp_path) == len(os.sched_getaffinity(0))
