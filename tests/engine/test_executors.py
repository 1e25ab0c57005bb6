"""One contract for the executors: this process, and actors of Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddip_ray.engine.executor import Executor, LocalExecutor
from ddip_ray.engine.ray.executor import RayExecutor
from ddip_ray.testing.executor_contract import ExecutorContract


@pytest.fixture(scope="class")
def store(_small_scan: Path) -> str:
    return str(_small_scan)


class TestLocalExecutor(ExecutorContract):
    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls) -> Executor:
        return LocalExecutor()


@pytest.mark.usefixtures("ray_cluster")
class TestRayExecutor(ExecutorContract):
    num_workers = 2

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, ray_cluster: None) -> Executor:
        return RayExecutor(2)
